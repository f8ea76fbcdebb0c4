package integration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
	"github.com/extexec/extexec/reload"
)

// TestPlanAdopt shows what a reload would change where systemd itself has applied directories and an image,
// which no record knows, and afterwards, where a record does. It changes nothing.
func TestPlanAdopt(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		a := newAdoptee(t, c, "plan")
		const tool, raw = "/usr/share/adopt-plan", "/usr/share/adopt-plan-raw"
		a.ship("tool", files{tool: "one\n"})
		a.ship("raw", files{raw: "raw\n"})
		a.image("raw", "raw.raw", squashfs)
		a.start("ExtensionImages=%D/raw.raw\nExtensionDirectories=%D/tool\n", tool, raw)
		plan := func(against reload.Against, want ...string) {
			t.Helper()
			before := a.mounts()
			p := planOf(a, "--checksum")
			got := changedOf(p)
			if !slices.Equal(got, want) {
				t.Errorf("the files that would change: %q, want %q", got, want)
			}
			for _, h := range p.Hierarchies {
				if h.Path == "/usr" && h.Against != against {
					t.Errorf("%s is compared with %s, want %s", h.Path, h.Against, against)
				}
			}
			if after := a.mounts(); after != before {
				t.Errorf("the plan changed the mounts from\n%s\nto\n%s", before, after)
			}
		}
		next := func(text string) {
			t.Helper()
			c.Rename(a.dir+"/tool", a.dir+"/old-"+text)
			a.ship("tool", files{tool: text + "\n"})
		}

		plan(reload.AgainstLive)
		next("two, longer")
		plan(reload.AgainstLive, "changed "+tool)
		a.reload()
		plan(reload.AgainstLayers)
		next("three, much longer")
		// The version that is live was renamed: what the service sees is left to compare with.
		plan(reload.AgainstLive, "changed "+tool)
		a.reload()
		a.sees(tool, "three, much longer\n")
		plan(reload.AgainstLayers)
	})
}

func planOf(a *adoptee, flags ...string) (p reload.PlanResult) {
	a.t.Helper()
	out := a.c.Must(slices.Concat([]string{"extexec", "plan", "--json"}, flags, []string{a.unit})...)
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		a.t.Fatalf("plan --json of %s: %v\n%s", a.unit, err, out)
	}
	return p
}

// changedOf are the files that a plan names, but for those of which only the time is another.
func changedOf(p reload.PlanResult) (lines []string) {
	for _, h := range p.Hierarchies {
		for _, f := range h.Files {
			if f.Change == reload.FileChanged && strings.Join(f.Differs, "") == "mtime" {
				continue
			}
			lines = append(lines, fmt.Sprintf("%s %s", f.Change, f.Path))
		}
	}
	return lines
}
