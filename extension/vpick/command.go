package vpick

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/extexec/extexec/extension/architecture"
	"github.com/extexec/extexec/extension/version"
)

// Command is what systemd-vpick(1) takes on its command line, each as its flag
// gives it.
type Command struct {
	Basename     string   // -B
	Version      string   // -V
	Architecture string   // -A: native, secondary, uname, auto, or a word
	Suffix       string   // -S
	Types        []string // -t, once or more; an empty one forgets those before
	Print        string   // -p: path, filename, version, type, arch, tries, all
	Resolve      bool     // --resolve

	Native string // the architecture to pick for; empty: that of this program
}

// Run picks from each path in turn and writes what was asked for, a line each.
// It stops at the first path that has nothing to pick.
func (c Command) Run(w io.Writer, paths []string) error {
	filter, err := c.filter()
	if err != nil {
		return err
	}
	write, err := c.writer()
	if err != nil {
		return err
	}
	for _, path := range paths {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return fmt.Errorf("make path %q absolute: %w", path, err)
		}
		if strings.HasSuffix(path, "/") && absolute != "/" {
			absolute += "/" // It means "a directory", and Abs drops it.
		}
		result, err := Pick(absolute, Options{Native: c.Native, Resolve: c.Resolve}, filter)
		if err != nil {
			return err
		}
		if err := write(w, result.Picked()); err != nil {
			return err
		}
	}
	return nil
}

func (c Command) filter() (Filter, error) {
	f := Filter{Basename: c.Basename, Version: c.Version, Suffix: c.Suffix}
	for flag, value := range map[string]string{"basename": c.Basename, "suffix": c.Suffix} {
		if strings.Contains(value, "/") || len(value) > 255 {
			return f, fmt.Errorf("read %s %q: it must be part of one file name", flag, value)
		}
	}
	if c.Version != "" && !version.Valid(c.Version) {
		return f, fmt.Errorf("read version %q: it may have letters, digits, \".\", \"-\", \"~\" and \"^\" only", c.Version)
	}
	var err error
	if f.Arch, err = c.architecture(); err != nil {
		return f, err
	}
	for _, word := range c.Types {
		if word == "" {
			f.Types = 0
			continue
		}
		t, ok := ParseType(word)
		if !ok {
			return f, fmt.Errorf("read type %q: use reg, dir, sock, fifo, blk, chr or lnk", word)
		}
		f.Types |= t
	}
	return f, nil
}

func (c Command) architecture() (string, error) {
	native := c.Native
	if native == "" {
		native = architecture.Native()
	}
	switch c.Architecture {
	case "", "auto":
		return "", nil
	case "native":
		return native, nil
	case "uname":
		return architecture.Uname(), nil
	case "secondary":
		if s := architecture.Secondary(native); s != "" {
			return s, nil
		}
		return "", fmt.Errorf("read architecture %q: %s has no secondary architecture", c.Architecture, native)
	}
	if !architecture.Known(c.Architecture) {
		return "", fmt.Errorf("read architecture %q: use native, secondary, uname, auto or a word such as x86-64", c.Architecture)
	}
	return c.Architecture, nil
}

func (c Command) writer() (func(io.Writer, *Candidate) error, error) {
	switch c.Print {
	case "", "path":
		return printPath, nil
	case "filename":
		return func(w io.Writer, p *Candidate) error { return printValue(w, "file name", filepath.Base(p.Path)) }, nil
	case "version":
		return func(w io.Writer, p *Candidate) error { return printValue(w, "version", p.Version) }, nil
	case "type":
		return func(w io.Writer, p *Candidate) error { return printValue(w, "type", p.Type.Word()) }, nil
	case "arch", "architecture":
		return func(w io.Writer, p *Candidate) error { return printValue(w, "architecture", p.Arch) }, nil
	case "tries":
		return func(w io.Writer, p *Candidate) error { return printValue(w, "counter of tries", tries(p)) }, nil
	case "all":
		return printAll, nil
	}
	return nil, fmt.Errorf("read print %q: use path, filename, version, type, arch, tries or all", c.Print)
}

func printPath(w io.Writer, p *Candidate) error {
	path := p.Path
	if p.Type == Directory && !strings.HasSuffix(path, "/") {
		path += "/"
	}
	_, err := fmt.Fprintln(w, path)
	return err
}

func printValue(w io.Writer, what, value string) error {
	if value == "" {
		return fmt.Errorf("print %s: the name has none", what)
	}
	_, err := fmt.Fprintln(w, value)
	return err
}

func tries(p *Candidate) string {
	if p.TriesLeft == Unlimited {
		return ""
	}
	return fmt.Sprintf("+%d-%d", p.TriesLeft, p.TriesDone)
}

func printAll(w io.Writer, p *Candidate) error {
	rows := [][2]string{{"Path", p.Path}, {"Version", p.Version}, {"Type", p.Type.Word()}, {"Architecture", p.Arch}}
	if p.TriesLeft != Unlimited {
		rows = append(rows, [2]string{"Tries left", fmt.Sprint(p.TriesLeft)}, [2]string{"Tries done", fmt.Sprint(p.TriesDone)})
	}
	for _, row := range rows {
		value := row[1]
		if value == "" {
			value = "n/a"
		}
		if _, err := fmt.Fprintf(w, "%*s: %s\n", len("Architecture"), row[0], value); err != nil {
			return err
		}
	}
	return nil
}
