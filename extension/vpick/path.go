package vpick

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// wildcard stands for the version, the architecture and the tries in the last
// component of a path below a versioned directory.
const wildcard = "___"

// Uses says whether a path asks for a version to be picked: its last component
// ends in ".v", or contains "___" right below one that does. An empty path is an
// error.
func Uses(path string) (bool, error) {
	if path == "" {
		return false, fmt.Errorf("look at path %q: %w", path, unix.EINVAL)
	}
	dir, name := splitPath(path)
	if strings.HasSuffix(name, ".v") {
		return true, nil
	}
	_, parent := splitPath(dir)
	return strings.Contains(name, wildcard) && strings.HasSuffix(parent, ".v"), nil
}

// splitPath cuts off the last component. Trailing slashes do not count. A path
// without one, such as "/" and ".", has an empty name.
func splitPath(path string) (dir, name string) {
	path = strings.TrimRight(path, "/")
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, name = path[:i+1], path[i+1:]
	} else {
		name = path
	}
	if name == "." || name == ".." {
		return path, ""
	}
	return dir, name
}

// place is where to look, and for what.
type place struct {
	dir      string // the directory to enumerate; "" when the path is literal
	basename string
	suffix   string
	types    Type
}

// locate works out the place that a path means under a filter.
func (f Filter) locate(path string) place {
	p := place{dir: path, basename: f.Basename, suffix: f.Suffix, types: f.Types}
	if f.Basename != "" {
		return p
	}
	dir, name := splitPath(path)
	if base, ok := strings.CutSuffix(name, ".v"); ok {
		p.basename = strings.TrimSuffix(base, f.Suffix)
		return p
	}
	at := strings.LastIndex(name, wildcard)
	if _, parent := splitPath(dir); at < 0 || !strings.HasSuffix(parent, ".v") {
		return place{types: f.Types}
	}
	p.dir, p.basename, p.suffix = dir, name[:at], name[at+len(wildcard):]
	if strings.HasSuffix(path, "/") {
		p.types = onlyDirectories(f.Types)
	}
	return p
}

// SuffixOf is what the names end with that a path means under a filter. It says
// false for a path that uses no versioned directory.
func SuffixOf(path string, f Filter) (suffix string, versioned bool) {
	p := f.locate(path)
	return p.suffix, p.dir != ""
}

// DirOf is the versioned directory that a path means under a filter. It says false
// for a path that uses none.
func DirOf(path string, f Filter) (dir string, versioned bool) {
	p := f.locate(path)
	return p.dir, p.dir != ""
}

// onlyDirectories is what a pattern with a slash at its end asks for. A set that
// has no directories in it stays without.
func onlyDirectories(types Type) Type {
	if types != 0 && types&Directory == 0 {
		return none
	}
	return Directory
}

func join(dir, name string) string { return strings.TrimRight(dir, "/") + "/" + name }
