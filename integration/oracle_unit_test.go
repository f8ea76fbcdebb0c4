package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/extexec/extexec/integration/rig"
)

// unitFacts is what systemd and our packages both know of a unit.
type unitFacts struct {
	Fragment, Description       string
	DropIns, Names              []string
	Exec                        [][]string // each: flags, path, argv
	Images, Directories, Groups []string
	User, WorkingDirectory      string
	DynamicUser, NoNewPrivs     bool
}

// TestOracleUnit has systemd load generated units, and compares what it says of them on the bus with what
// unitfile and settings read from the same files.
func TestOracleUnit(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		files, links, units := unitCases()
		install(c, files, links)
		theirs := busFacts(t, c, units)
		root := os.DirFS(c.Path("/"))
		refused := 0
		for i, name := range units {
			ours, err := readFacts(root, name)
			if theirs[i] == nil {
				refused++
				if err == nil {
					t.Errorf("%s: systemd refuses it, we do not:\n%s", name, files["/etc/systemd/system/"+name])
				}
				continue
			}
			if ours == nil {
				t.Errorf("%s: systemd loads it, we do not: %v\n%s", name, err, files["/etc/systemd/system/"+name])
			} else if diff := cmp.Diff(theirs[i], ours); diff != "" {
				t.Errorf("%s: -systemd +ours\n%s\n%s", name, diff, files["/etc/systemd/system/"+name])
			}
		}
		if refused > len(units)/2 {
			t.Errorf("systemd refuses %d of %d units: the generator makes too much nonsense", refused, len(units))
		}
	})
}

// install writes the files and links, and takes them away at the end of the test.
func install(c *rig.Container, files, links map[string]string) {
	var script strings.Builder
	script.WriteString("set -e\n")
	for _, p := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&script, "mkdir -p %s; printf %%s %s >%s\n", quote(path.Dir(p)), quote(files[p]), quote(p))
	}
	for _, p := range slices.Sorted(maps.Keys(links)) {
		fmt.Fprintf(&script, "mkdir -p %s; ln -s %s %s\n", quote(path.Dir(p)), quote(links[p]), quote(p))
	}
	c.Cleanup(func() {
		c.Script("rm -rf /etc/systemd/system/oracle* /run/systemd/system/oracle* /usr/lib/systemd/system/oracle*")
		c.Systemctl("daemon-reload")
	})
	c.Script(script.String())
	c.Systemctl("daemon-reload")
}

// busFacts asks systemd for the properties of all units in one process; nil is a unit that it does not load.
func busFacts(t *testing.T, c *rig.Container, units []string) []*unitFacts {
	t.Helper()
	var script strings.Builder
	for _, name := range units {
		for _, face := range []string{"Unit", "Service"} {
			fmt.Fprintf(&script, "busctl --json=short call org.freedesktop.systemd1 /org/freedesktop/systemd1/unit/%s "+
				"org.freedesktop.DBus.Properties GetAll s org.freedesktop.systemd1.%s\n", busPath(name), face)
		}
	}
	lines := strings.Split(strings.TrimSpace(c.Script(script.String())), "\n")
	if len(lines) != 2*len(units) {
		t.Fatalf("%d answers about %d units", len(lines), len(units))
	}
	facts := make([]*unitFacts, len(units))
	for i := range units {
		var p properties
		for _, line := range lines[2*i : 2*i+2] {
			if err := p.read(line); err != nil {
				t.Fatalf("%s: %v", units[i], err)
			}
		}
		if get[string](p, "LoadState") == "loaded" {
			facts[i] = p.facts()
		}
	}
	return facts
}

// busPath is a unit's name as systemd writes it in an object path: other bytes than letters and digits in hex.
func busPath(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}

// properties are those of a D-Bus object, by name, as JSON.
type properties map[string]json.RawMessage

// read adds the answer of one GetAll.
func (p *properties) read(answer string) error {
	var msg struct {
		Data []map[string]struct{ Data json.RawMessage }
	}
	if err := json.Unmarshal([]byte(answer), &msg); err != nil || len(msg.Data) != 1 {
		return fmt.Errorf("parse answer of busctl: %w: %.100s", err, answer)
	}
	if *p == nil {
		*p = properties{}
	}
	for name, value := range msg.Data[0] {
		(*p)[name] = value.Data
	}
	return nil
}

// get decodes one property; one that is not there, or of another type, is a mistake of this file.
func get[T any](p properties, name string) T {
	var v T
	if err := json.Unmarshal(p[name], &v); err != nil {
		panic(fmt.Sprintf("property %s = %s: %v", name, p[name], err))
	}
	return v
}

func (p properties) facts() *unitFacts {
	f := &unitFacts{
		Fragment: get[string](p, "FragmentPath"), Description: get[string](p, "Description"),
		DropIns: get[[]string](p, "DropInPaths"), Names: slices.Sorted(slices.Values(get[[]string](p, "Names"))),
		Directories: get[[]string](p, "ExtensionDirectories"), Groups: get[[]string](p, "SupplementaryGroups"),
		User: get[string](p, "User"), WorkingDirectory: get[string](p, "WorkingDirectory"),
		DynamicUser: get[bool](p, "DynamicUser"), NoNewPrivs: get[bool](p, "NoNewPrivileges"),
	}
	for _, command := range get[[][]json.RawMessage](p, "ExecStartEx") {
		var words, argv, flags []string
		for _, part := range []struct {
			from json.RawMessage
			to   any
		}{{command[0], new(string)}, {command[1], &argv}, {command[2], &flags}} {
			if err := json.Unmarshal(part.from, part.to); err != nil {
				panic(err)
			}
			if s, ok := part.to.(*string); ok {
				words = append(words, *s)
			}
		}
		flags = slices.DeleteFunc(flags, func(s string) bool { return s == "ambient" }) // "!!", shown by older ones only
		slices.Sort(flags)
		f.Exec = append(f.Exec, append([]string{strings.Join(flags, " ")}, append(words, argv...)...))
	}
	for _, image := range get[[][]json.RawMessage](p, "ExtensionImages") {
		var source string
		var optional bool
		var options [][]string
		for part, to := range []any{&source, &optional, &options} {
			if err := json.Unmarshal(image[part], to); err != nil {
				panic(err)
			}
		}
		byName := map[string]string{}
		for _, o := range options {
			byName[o[0]] = o[1]
		}
		f.Images = append(f.Images, imageFact(source, optional, byName))
	}
	return f.normal()
}

// normal takes out what is told differently and means the same: /lib on a merged /usr, lists that are empty,
// drop-ins without a word in them; and images below /proc, which 252 takes and later ones do not.
func (f *unitFacts) normal() *unitFacts {
	f.Fragment = strings.TrimPrefix(f.Fragment, "/usr")
	f.DropIns = slices.DeleteFunc(f.DropIns, func(p string) bool { return strings.HasSuffix(p, "-empty.conf") })
	f.Images = slices.DeleteFunc(f.Images, func(i string) bool { return strings.HasPrefix(i, "/proc/") })
	for i, d := range f.Directories { // "+" is accepted and means nothing
		f.Directories[i] = strings.NewReplacer("-+/", "-/").Replace(strings.TrimPrefix(d, "+"))
	}
	for i, p := range f.DropIns {
		f.DropIns[i] = strings.TrimPrefix(p, "/usr")
	}
	for _, list := range []*[]string{&f.DropIns, &f.Names, &f.Images, &f.Directories, &f.Groups} {
		if len(*list) == 0 {
			*list = nil
		}
	}
	return f
}

func imageFact(source string, optional bool, options map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s optional=%t", source, optional)
	for _, name := range slices.Sorted(maps.Keys(options)) {
		fmt.Fprintf(&b, " %s:%s", name, options[name])
	}
	return b.String()
}
