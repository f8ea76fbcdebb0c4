package unitfile

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// lineMax is systemd's LONG_LINE_MAX: no line, and no line with its
// continuations, may be longer (bytes).
const lineMax = 1 << 20

// whitespace is what systemd strips and splits at.
const whitespace = " \t\n\r"

const byteOrderMark = "\uFEFF"

// Assignment is one KEY=VALUE of a unit file, continuations joined, both sides
// stripped. Value is "" in an assignment that resets.
type Assignment struct {
	Section string
	Key     string
	Value   string
	File    string
	Line    int // where the assignment begins
}

// Errorf is a SyntaxError at the place of the assignment.
func (a Assignment) Errorf(format string, args ...any) *SyntaxError {
	return &SyntaxError{File: a.File, Line: a.Line, Msg: fmt.Sprintf(format, args...)}
}

// File is one unit file or drop-in.
type File struct {
	Path        string
	Assignments []Assignment
	// Sections are the section headers in the order of the file.
	Sections []Section
	Warnings []Warning
}

// Section is a section header.
type Section struct {
	Name string
	Line int
}

// Parse reads the text of a unit file by systemd's rules (config_parse). path
// is for messages. What systemd only warns about (a line without "=", text
// before the first section) is in File.Warnings; what makes systemd give the
// file up (a bad section header, a line above 1 MiB or not in UTF-8) is a
// *SyntaxError.
func Parse(path string, data []byte) (*File, error) {
	p := parser{file: &File{Path: path}}
	rest := string(data)
	for line := 1; rest != ""; line++ {
		var l string
		var n int
		l, n = cutLine(rest)
		if n >= lineMax {
			return nil, &SyntaxError{File: path, Line: line, Msg: "line too long: the limit is 1 MiB"}
		}
		rest = rest[n:]
		if err := p.physical(l, line); err != nil {
			return nil, err
		}
	}
	if p.continued {
		if err := p.logical(string(p.pending), p.start); err != nil {
			return nil, err
		}
	}
	return p.file, nil
}

// cutLine gives the first line of s and its length with the end of line. As in
// systemd's read_line, an end of line is any run of \n, \r and \0 in which none
// comes twice and nothing follows \0.
func cutLine(s string) (line string, n int) {
	end := strings.IndexAny(s, "\n\r\x00")
	if end < 0 {
		return s, len(s)
	}
	n = end
	for seen := ""; n < len(s) && strings.IndexByte("\n\r\x00", s[n]) >= 0; n++ {
		if strings.IndexByte(seen, s[n]) >= 0 || strings.HasSuffix(seen, "\x00") {
			break
		}
		seen += s[n : n+1]
	}
	return s[:end], n
}

type parser struct {
	file      *File
	section   string
	inSection bool
	bomSeen   bool

	continued bool
	pending   []byte // the lines of a continuation so far
	start     int    // where it began
}

// physical takes one line of the file. A comment is skipped whatever its last
// character, also between the lines of a continuation.
func (p *parser) physical(l string, line int) error {
	if !p.bomSeen {
		if after, ok := strings.CutPrefix(l, byteOrderMark); ok {
			l, p.bomSeen = after, true
		}
	}
	if t := strings.TrimLeft(l, whitespace); t != "" && (t[0] == '#' || t[0] == ';') {
		return nil
	}
	if len(p.pending)+len(l) > lineMax {
		return &SyntaxError{File: p.file.Path, Line: line, Msg: "continued line too long: the limit is 1 MiB"}
	}
	if !p.continued {
		p.start = line
	}
	if escapedAtEnd(l) {
		p.continued = true
		p.pending = append(append(p.pending, l[:len(l)-1]...), ' ')
		return nil
	}
	if p.continued {
		l = string(append(p.pending, l...))
		p.continued, p.pending = false, nil
	}
	return p.logical(l, p.start)
}

// escapedAtEnd tells whether the last character is a backslash that is not
// itself escaped. Of a continuation the last line is enough: the one before it
// ends in a space.
func escapedAtEnd(l string) bool {
	n := len(l) - len(strings.TrimRight(l, `\`))
	return n%2 == 1
}

// logical takes a line whose continuations are joined.
func (p *parser) logical(l string, line int) error {
	l = strings.Trim(l, whitespace)
	switch {
	case l == "":
		return nil
	case !utf8.ValidString(l):
		return &SyntaxError{File: p.file.Path, Line: line, Msg: "not valid UTF-8"}
	case l[0] == '[':
		return p.header(l, line)
	case !p.inSection:
		p.warn(line, "text before the first section: line ignored")
		return nil
	}
	key, value, ok := strings.Cut(l, "=")
	switch {
	case !ok:
		p.warn(line, fmt.Sprintf("missing \"=\" in %q: line ignored", abbreviate(l)))
	case key == "":
		p.warn(line, "missing key name before \"=\": line ignored")
	default:
		p.file.Assignments = append(p.file.Assignments, Assignment{
			Section: p.section,
			Key:     strings.Trim(key, whitespace),
			Value:   strings.Trim(value, whitespace),
			File:    p.file.Path,
			Line:    line,
		})
	}
	return nil
}

func (p *parser) header(l string, line int) error {
	if !strings.HasSuffix(l, "]") || len(l) < 2 {
		return &SyntaxError{File: p.file.Path, Line: line, Msg: fmt.Sprintf("invalid section header %q: want [NAME]", abbreviate(l))}
	}
	name := l[1 : len(l)-1]
	if !stringIsSafe(name) {
		return &SyntaxError{File: p.file.Path, Line: line, Msg: fmt.Sprintf("invalid character in section header %q", abbreviate(l))}
	}
	p.section, p.inSection = name, true
	p.file.Sections = append(p.file.Sections, Section{Name: name, Line: line})
	return nil
}

func (p *parser) warn(line int, msg string) {
	p.file.Warnings = append(p.file.Warnings, Warning{
		SyntaxError: SyntaxError{File: p.file.Path, Line: line, Msg: msg},
		Section:     p.section,
	})
}

// stringIsSafe is systemd's string_is_safe: no control characters, quotes or
// backslashes.
func stringIsSafe(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f || strings.IndexByte(`"'\`, s[i]) >= 0 {
			return false
		}
	}
	return true
}

// abbreviate keeps a message readable when the text quoted in it is not.
func abbreviate(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}
