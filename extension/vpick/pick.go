package vpick

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension/architecture"
)

// ErrNoMatch is returned when there is nothing to pick: no entry, or none that
// may be used.
var ErrNoMatch = errors.New("no entry matches")

// Error is a failed pick.
type Error struct {
	Path string // as it was given
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("pick from %q: %v", e.Path, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Filter says what is looked for.
type Filter struct {
	// Basename is what names start with. Where it is empty it comes from the
	// path; where it is not, the path is the directory, whatever its name.
	Basename string
	Version  string // this version only; empty: the newest
	Arch     string // this architecture only; empty: what runs here
	Suffix   string // what names end with, such as ".raw"
	Types    Type   // the kinds of files that will do; zero: all
}

// Raw is the filter of ExtensionImages=.
func Raw() Filter { return Filter{Suffix: ".raw", Types: Regular | Block} }

// Dir is the filter of ExtensionDirectories=.
func Dir() Filter { return Filter{Types: Directory} }

// Any are the filters for an extension of either kind.
func Any() []Filter { return []Filter{Raw(), Dir()} }

// Candidate is an entry that was looked at.
type Candidate struct {
	Path string // the directory as given, and the name
	Name string // the entry's own name, also where it is a symbolic link

	// Version, Arch and the tries are what the name says. Version is empty
	// for a path that is taken literally, Arch where the name has none that is
	// known, and both tries are [Unlimited] where the name counts none.
	Version, Arch        string
	TriesLeft, TriesDone uint

	// Type is what the entry leads to, zero where it was not looked at:
	// candidates that come after the one that was picked are not.
	Type Type

	Why string // why it was not picked; empty for the one that was
}

// Result is the outcome of a pick.
type Result struct {
	Candidates []Candidate // the best first
	Warnings   []string    // entries that could not be looked at
	picked     int
}

// Picked is the candidate that was chosen.
func (r *Result) Picked() *Candidate { return &r.Candidates[r.picked] }

// Options change how [Pick] works.
type Options struct {
	Native  string // the architecture to pick for; empty: that of this program
	Resolve bool   // make the path canonical, without symbolic links

	// Proven says whether a candidate has shown that it is good, whatever tries its
	// name counts: it is then picked as one whose name counts none.
	Proven func(c *Candidate) bool

	// PassOver is asked about each candidate that would be picked. A reason
	// that is not empty passes it over; an error ends the pick. The file is an
	// O_PATH descriptor of what the entry leads to; Pick closes it afterwards.
	PassOver func(c *Candidate, f *os.File) (why string, err error)
}

// Pick chooses the best entry that a path and the filters mean; where there are
// several filters, which must ask for the same architecture, the best over all. A path that uses no versioned
// directory, see [Uses], means itself.
//
// Its errors are of type [*Error]. It wraps [ErrNoMatch], with what was passed
// over and why, when there is nothing to choose, and an error that satisfies
// [fs.ErrNotExist] when the path itself is missing. The result is valid, with its
// candidates, when the error is ErrNoMatch; [Result.Picked] is not.
func Pick(path string, o Options, filters ...Filter) (*Result, error) {
	if path == "" {
		return nil, &Error{Path: path, Err: unix.EINVAL}
	}
	if o.Native == "" {
		o.Native = architecture.Native()
	}
	const rounds = 10
	s := &search{}
	for range rounds {
		s = &search{path: path, options: o, result: &Result{picked: -1}}
		if err := s.run(filters); err != nil {
			return nil, err
		}
		// An entry that has gone since it was listed may have another name now: one
		// with a counter is renamed when it is tried.
		if !s.vanished {
			break
		}
	}
	if s.result.picked < 0 {
		return s.result, s.noMatch()
	}
	return s.result, nil
}

// run lists the entries of all filters and chooses.
func (s *search) run(filters []Filter) error {
	for _, f := range filters {
		if err := s.collect(f); err != nil {
			return err
		}
	}
	return s.choose()
}

type search struct {
	path    string
	options Options
	result  *Result
	found   []entry
	order   preference
	sought  []string // the patterns, for the message

	vanished bool // an entry was listed and is not there any more
}

// entry is a candidate with the kinds of files that will do for it, which
// depend on the filter that found it.
type entry struct {
	Candidate
	types Type
}

// collect adds the entries that match one filter. Nothing of what they lead to
// is looked at.
func (s *search) collect(f Filter) error {
	s.order = newPreference(f.Arch, s.options.Native)
	where := f.locate(s.path)
	if where.dir == "" {
		_, name := splitPath(s.path)
		c := Candidate{Path: s.path, Name: name, Arch: f.Arch, TriesLeft: Unlimited, TriesDone: Unlimited}
		s.found = append(s.found, entry{Candidate: c, types: where.types})
		return nil
	}
	s.sought = append(s.sought, where.basename+"_*"+where.suffix)

	names, err := readNames(where.dir)
	if err != nil {
		return &Error{Path: s.path, Err: err}
	}
	for _, name := range names {
		c, ok := where.parseName(name)
		if !ok || f.Version != "" && c.Why == "" && c.Version != f.Version {
			continue
		}
		if _, usable := s.order.rank(c.Arch); !usable && c.Why == "" {
			c.Why = fmt.Sprintf("is for architecture %s, not %s", archText(c.Arch), s.order.words[0])
		}
		if s.options.Proven != nil && s.options.Proven(&c) {
			c.TriesLeft, c.TriesDone = Unlimited, Unlimited
		}
		s.found = append(s.found, entry{Candidate: c, types: where.types})
	}
	return nil
}

func readNames(dir string) ([]string, error) {
	// O_DIRECTORY refuses a fifo before it could block.
	d, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// choose puts the entries in order, looks at them from the best on, and stops
// at the first that will do.
func (s *search) choose() error {
	slices.SortFunc(s.found, func(a, b entry) int { return s.order.better(&a.Candidate, &b.Candidate) })
	for i := range s.found {
		e := &s.found[i]
		if e.Why == "" && s.result.picked < 0 {
			if err := s.look(e); err != nil {
				return err
			}
			if e.Why == "" {
				s.result.picked = i
			}
		} else if e.Why == "" {
			e.Why = s.order.whyWorse(&e.Candidate, &s.found[s.result.picked].Candidate)
		}
		s.result.Candidates = append(s.result.Candidates, e.Candidate)
	}
	return nil
}

// Shortage says that an error is about us and not about what was looked at: we have
// no descriptor or no memory left. Another version is no way out of that.
func Shortage(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// look opens what an entry leads to and sets Why when it will not do. An error is
// that of a path that is taken literally, as there is no other to take, or one that
// says nothing about the entry.
func (s *search) look(e *entry) error {
	literal := len(s.sought) == 0
	f, mode, err := pin(e.Path)
	if err != nil && (literal || Shortage(err)) {
		return &Error{Path: s.path, Err: err}
	}
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			_, err := os.Lstat(e.Path)
			s.vanished = s.vanished || errors.Is(err, fs.ErrNotExist)
		}
		e.Why = "cannot be opened: " + reason(err)
		s.result.Warnings = append(s.result.Warnings, fmt.Sprintf("%q is passed over: it %s", e.Path, e.Why))
		return nil
	}
	defer f.Close()

	e.Type = typeOf(mode)
	switch {
	case e.types == none:
		e.Why = "is not what is asked for: the pattern ends in \"/\", which means a directory"
		return nil
	case e.types != 0 && e.types&e.Type == 0:
		e.Why = fmt.Sprintf("is %s, not %s", e.Type, e.types)
		return nil
	}
	if s.options.PassOver != nil {
		if e.Why, err = s.options.PassOver(&e.Candidate, f); err != nil {
			return &Error{Path: s.path, Err: err}
		}
		if e.Why != "" {
			return nil
		}
	}
	if s.options.Resolve {
		if e.Path, err = filepath.EvalSymlinks(e.Path); err != nil {
			return &Error{Path: s.path, Err: err}
		}
	}
	return nil
}

// pin opens what a path leads to without opening it for reading.
func pin(path string) (f *os.File, mode uint32, err error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, 0, &fs.PathError{Op: "fstat", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), st.Mode, nil
}

// reason is the cause alone, for where the path has been named already.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// noMatch says what was looked for, and what became of what was found.
func (s *search) noMatch() error {
	const most = 5
	var text strings.Builder
	if len(s.sought) > 0 {
		fmt.Fprintf(&text, " %s", strings.Join(slices.Compact(s.sought), " or "))
	}
	for i, c := range s.result.Candidates {
		if i == most {
			fmt.Fprintf(&text, "; and %d more", len(s.result.Candidates)-most)
			break
		}
		fmt.Fprintf(&text, "; %q %s", c.Name, c.Why)
	}
	return &Error{Path: s.path, Err: fmt.Errorf("%w%s", ErrNoMatch, text.String())}
}
