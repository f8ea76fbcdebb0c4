package units

import (
	"fmt"
	"slices"
	"strings"

	"github.com/extexec/extexec/unitfile"
)

// Watch is the kind of the drop-in of a path unit: which directories it watches.
const Watch Kind = "watch"

// PathUnit is the unit that watches the extensions of a service.
func PathUnit(service unitfile.Name) string { return "extexec-reload@" + instance(service) + ".path" }

// TriggerUnit is what the path unit triggers, see extexec-trigger@.service.
func TriggerUnit(service unitfile.Name) string {
	return "extexec-trigger@" + instance(service) + ".service"
}

// LookUnit is what has a look once that is over, see extexec-reload@.service.
func LookUnit(service unitfile.Name) string {
	return "extexec-reload@" + instance(service) + ".service"
}

func instance(service unitfile.Name) string { return strings.TrimSuffix(service.String(), ".service") }

// ForWatch makes the drop-in with which the path unit of a service watches these
// absolute paths. What changes there while systemd reads its units anew, it does not see;
// so it also waits for what extexec-generator makes each time.
func ForWatch(service unitfile.Name, paths []string) (DropIn, error) {
	unit := PathUnit(service)
	if len(paths) == 0 {
		return DropIn{}, fmt.Errorf("watch unit %q: it lists no extensions: give it some with extexec adopt or extexec wrap", service)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s for %s. Changes are lost; \"extexec watch --disable %s\" takes it back.\n\n[Path]\n", marker, Watch, service, service)
	paths = slices.Clone(paths)
	slices.Sort(paths)
	for _, p := range slices.Compact(paths) {
		if strings.ContainsFunc(p, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\\' }) || strings.TrimSpace(p) != p {
			return DropIn{}, fmt.Errorf("watch unit %q: the path %q cannot be written into a unit: use another one", service, p)
		}
		fmt.Fprintf(&b, "PathChanged=%s\n", strings.ReplaceAll(p, "%", "%%"))
	}
	b.WriteString("PathExists=%t/systemd/generator/extexec/%i\n")
	return DropIn{Kind: Watch, Unit: unit, Path: Path(unit), Text: b.String()}, nil
}
