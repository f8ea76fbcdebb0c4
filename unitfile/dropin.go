package unitfile

import (
	"path"
	"slices"
	"strings"
)

// dropInDirs is the names of the drop-in directories of a unit in one
// directory of the search path, the most specific first: of foo-bar@x.service
// its own, foo-bar@.service.d, foo-.service.d (from the template), then
// foo-@x.service.d and so on (unit_file_find_dirs).
func dropInDirs(n Name) []string {
	var names []string
	seen := map[string]bool{}
	var visit func(n Name)
	visit = func(n Name) {
		if seen[n.full] {
			return
		}
		seen[n.full] = true
		names = append(names, n.full+".d")
		if n.IsInstance() {
			if t, err := ParseName(n.Template()); err == nil {
				visit(t)
			}
		}
		prefix, ok := chopPrefix(n.prefix)
		if !ok {
			return
		}
		full := prefix + "." + n.kind
		if n.IsInstance() {
			full = prefix + "@" + n.instance + "." + n.kind
		}
		if shorter, err := ParseName(full); err == nil {
			visit(shorter)
		}
	}
	visit(n)
	return names
}

// chopPrefix goes from foo-bar to foo-, from foo-bar- to foo-; ok is false
// where nothing is left.
func chopPrefix(prefix string) (string, bool) {
	chopped := false
	for {
		dash := strings.LastIndexByte(prefix, '-')
		if dash <= 0 {
			return "", false
		}
		if dash < len(prefix)-1 || chopped {
			return prefix[:dash+1], true
		}
		prefix, chopped = prefix[:dash], true
	}
}

// dropIn is a drop-in by its base name, which is also its rank.
type dropIn struct {
	base string
	path string
	data []byte
}

// dropIns collects the drop-ins of all names of a unit. Of files with one name
// the first directory's counts; they apply in the order of their names, in
// whatever directory they are. A mask (empty, or a link to /dev/null) hides the
// name in the directories after it.
func (x *index) dropIns(u *Unit) []dropIn {
	var found []dropIn
	seen := map[string]bool{}
	visited := map[string]bool{}
	visit := func(dir string) {
		real, err := x.tree.resolve(dir)
		if err != nil || visited[real] {
			return // most units have no such directory
		}
		visited[real] = true
		entries, err := x.tree.readDir(real)
		if err != nil {
			x.warn(dir, err.Error())
			return
		}
		for _, e := range entries {
			base := e.Name()
			if seen[base] || !strings.HasSuffix(base, ".conf") || base[0] == '.' || e.IsDir() {
				continue
			}
			p := path.Join(dir, base)
			data, masked, err := x.tree.content(path.Join(real, base))
			if err != nil {
				x.warn(p, "drop-in ignored: "+err.Error())
				continue
			}
			seen[base] = true
			if !masked {
				found = append(found, dropIn{base: base, path: p, data: data})
			}
		}
	}
	for _, dir := range x.dropInPaths(u) {
		visit(dir)
	}
	slices.SortStableFunc(found, func(a, b dropIn) int { return strings.Compare(a.base, b.base) })
	return found
}

// dropInPaths is where drop-ins are looked for, in the order in which they
// override each other: name by name, for each the search path, last the
// directories for all units of the type.
func (x *index) dropInPaths(u *Unit) []string {
	var paths []string
	for _, name := range u.Names {
		n, err := ParseName(name)
		if err != nil {
			continue
		}
		below := dropInDirs(n)
		for _, dir := range x.exist {
			for _, d := range below {
				paths = append(paths, path.Join(dir, d))
			}
		}
	}
	for _, dir := range x.exist {
		paths = append(paths, path.Join(dir, u.Name.kind+".d"))
	}
	return paths
}
