package unitfile

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// SystemPath is where the system manager looks for units, highest priority
// first (systemd.unit(5)). /usr/lib is the place; /lib is there for systems
// whose /lib is no symlink.
func SystemPath() []string {
	return []string{
		"/etc/systemd/system.control",
		"/run/systemd/system.control",
		"/run/systemd/transient",
		"/run/systemd/generator.early",
		"/etc/systemd/system",
		"/etc/systemd/system.attached",
		"/run/systemd/system",
		"/run/systemd/system.attached",
		"/run/systemd/generator",
		"/usr/local/lib/systemd/system",
		"/usr/lib/systemd/system",
		"/lib/systemd/system",
		"/run/systemd/generator.late",
	}
}

// Load finds a unit by name in the directories of dirs (SystemPath) and reads
// it with its drop-ins. The root of fsys is the root of the system. The error
// is a *NotFoundError, a *MaskedError, a *SyntaxError, or what reading gave.
func Load(fsys fs.FS, name string, dirs []string) (*Unit, error) {
	n, err := ParseName(name)
	if err != nil {
		return nil, err
	}
	if n.IsTemplate() {
		return nil, fmt.Errorf("unit %q is a template: name an instance, such as %q", name, n.prefix+"@NAME."+n.kind)
	}
	x := newIndex(fsys, dirs, n.kind)
	fragment, err := x.fragment(n)
	if err != nil {
		return nil, err
	}
	main, err := mainName(n, fragment)
	if err != nil {
		return nil, err
	}
	u := &Unit{Name: main, Requested: name, Fragment: fragment, Names: x.names(n, main, fragment)}
	if err := x.read(u); err != nil {
		return nil, err
	}
	return u, nil
}

// LoadFile reads one unit file, with the drop-in directories beside it. Its
// base name is the unit's name; of an instance that has no file of its own the
// template beside it is taken.
func LoadFile(fsys fs.FS, file string) (*Unit, error) {
	if !path.IsAbs(file) {
		return nil, fmt.Errorf("unit file %q: the path is not absolute", file)
	}
	file = path.Clean(file)
	n, err := ParseName(path.Base(file))
	if err != nil {
		return nil, fmt.Errorf("unit file %q: %w", file, err)
	}
	x := newIndex(fsys, []string{path.Dir(file)}, "")
	fragment := file
	if _, err := x.tree.walk(file, false); errors.Is(err, fs.ErrNotExist) && n.IsInstance() {
		fragment = path.Join(path.Dir(file), n.Template())
	}
	u := &Unit{Name: n, Requested: file, Fragment: fragment, Names: []string{n.full}}
	if err := x.read(u); errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{Unit: n.full, Path: file}
	} else if err != nil {
		return nil, err
	}
	return u, nil
}

// mainName is the name that a unit goes by: its fragment's, with the instance
// put in.
func mainName(n Name, fragment string) (Name, error) {
	f, err := ParseName(path.Base(fragment))
	if err != nil || f.IsTemplate() && !n.IsInstance() {
		return n, nil
	}
	if f.IsTemplate() {
		return f.withInstance(n.instance)
	}
	return f, nil
}

// index is what the directories of a search path hold: of each name the file,
// or the name that it is an alias of.
type index struct {
	tree     tree
	dirs     []string // as given
	real     []string // those that exist, resolved, each once
	exist    []string // the same as given
	ids      map[string]target
	unread   string // the first directory that could not be read, and why
	warnings []Warning
}

// target is what a name in the search path leads to: a file, or another name.
type target struct{ file, alias string }

// newIndex looks at the names of one unit type; a kind of "" looks at none.
func newIndex(fsys fs.FS, dirs []string, kind string) *index {
	x := &index{tree: tree{fsys}, dirs: dirs, ids: map[string]target{}}
	for _, d := range dirs {
		real, err := x.tree.resolve(d)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				x.cannotRead(d, err)
			}
			continue
		}
		if slices.Contains(x.real, real) {
			continue
		}
		x.real, x.exist = append(x.real, real), append(x.exist, d)
		if kind != "" {
			x.scan(d, real, "."+kind)
		}
	}
	return x
}

func (x *index) warn(file, msg string) {
	x.warnings = append(x.warnings, Warning{SyntaxError: SyntaxError{File: file, Msg: msg}})
}

func (x *index) cannotRead(dir string, err error) {
	x.warn(dir, err.Error())
	if x.unread == "" {
		x.unread = dir + ": " + err.Error()
	}
}

// scan adds what one directory has under names that no directory before it
// had, as unit_file_build_name_map does.
func (x *index) scan(dir, real, suffix string) {
	entries, err := x.tree.readDir(real)
	if err != nil {
		x.cannotRead(dir, err)
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasSuffix(name, suffix) {
			continue
		}
		n, err := ParseName(name)
		if err != nil {
			continue
		}
		if _, known := x.ids[name]; known {
			continue
		}
		file := path.Join(dir, name)
		switch e.Type() {
		case fs.ModeDir:
		case fs.ModeSymlink:
			if t, ok := x.link(n, file, path.Join(real, name)); ok {
				x.ids[name] = t
			}
		default:
			x.ids[name] = target{file: file}
		}
	}
}

// link tells what a symlink in the search path means. Out of the search path
// it is a linked unit (or a mask), inside it is an alias.
func (x *index) link(n Name, file, real string) (target, bool) {
	to, err := fs.ReadLink(x.tree.fsys, fsName(real))
	if err != nil {
		x.warn(file, err.Error())
		return target{}, false
	}
	if !path.IsAbs(to) {
		to = path.Dir(real) + "/" + to
	}
	at, err := x.tree.place(to)
	if err != nil {
		x.warn(file, err.Error())
		return target{}, false
	}
	if !x.inside(at) {
		return target{file: file}, true
	}
	d, err := ParseName(path.Base(at))
	if err == nil {
		err = mayAlias(n, d)
	}
	if err != nil {
		x.warn(file, fmt.Sprintf("symlink to %s ignored: %v", to, err))
		return target{}, false
	}
	// A link to its own name further down the path has no effect.
	return target{alias: d.full}, d.full != n.full
}

func (x *index) inside(p string) bool {
	below := func(dir string) bool { return strings.HasPrefix(p, dir+"/") }
	return slices.ContainsFunc(x.real, below) || slices.ContainsFunc(x.dirs, below)
}

// mayAlias is unit_validate_alias_symlink_and_warn: which names a name may be
// an alias of.
func mayAlias(n, of Name) error {
	switch {
	case n.kind != of.kind:
		return fmt.Errorf("%q and %q are of different types", n.full, of.full)
	case n.IsInstance() && of.IsTemplate():
		return nil
	case n.at != of.at || n.IsInstance() != of.IsInstance():
		return fmt.Errorf("only one of %q and %q is a template or an instance", n.full, of.full)
	case n.instance != of.instance:
		return fmt.Errorf("the instances of %q and %q differ", n.full, of.full)
	}
	return nil
}

// maxAliases is systemd's FOLLOW_MAX.
const maxAliases = 8

// follow goes from a name to its file, through aliases, and from an alias that
// is an instance to its template. known is false where the name itself is not
// there.
func (x *index) follow(name string) (file string, known bool, err error) {
	id := name
	for range maxAliases {
		t, ok := x.ids[id]
		if !ok {
			if id == name {
				return "", false, nil
			}
			n, err := ParseName(id)
			if err != nil || !n.IsInstance() {
				return "", true, &NotFoundError{Unit: name, Alias: id}
			}
			if t, ok = x.ids[n.Template()]; !ok {
				return "", true, &NotFoundError{Unit: name, Alias: id}
			}
		}
		if t.file != "" {
			return t.file, true, nil
		}
		id = t.alias
	}
	return "", true, fmt.Errorf("unit %q: more than %d aliases in a row, or a loop of them", name, maxAliases)
}

// fragment finds the file of a unit, of an instance also by its template.
func (x *index) fragment(n Name) (string, error) {
	file, known, err := x.follow(n.full)
	var missing *NotFoundError
	if (!known || errors.As(err, &missing)) && n.IsInstance() {
		if f, k, e := x.follow(n.Template()); k {
			file, known, err = f, k, e
		}
	}
	if err == nil && !known {
		err = &NotFoundError{Unit: n.full, Unread: x.unread}
	}
	return file, err
}

// names is every name of the unit: itself and all aliases in the search path.
// Each has drop-in directories.
func (x *index) names(n, main Name, fragment string) []string {
	names := []string{main.full}
	add := func(s string) {
		if !slices.Contains(names, s) {
			names = append(names, s)
		}
	}
	add(n.full)
	for _, id := range sortedKeys(x.ids) {
		if x.ids[id].alias == "" {
			continue
		}
		if file, _, err := x.follow(id); err != nil || file != fragment {
			continue
		}
		a, err := ParseName(id)
		if err != nil {
			continue
		}
		if a.IsTemplate() && n.IsInstance() {
			if a, err = a.withInstance(n.instance); err != nil {
				continue
			}
			// An alias template does not count where this very instance of it is
			// something else.
			if f, known, err := x.follow(a.full); err == nil && known && f != fragment {
				continue
			}
		}
		if a.instance == n.instance {
			add(a.full)
		}
	}
	return names
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
