package unitfile

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// ExecCommand is one command of an Exec line. Specifiers are done, $VAR is
// not: see ExpandEnv.
type ExecCommand struct {
	// Prefix is the special prefixes as written: some of "-@:+!|".
	Prefix string
	// Path is the program: absolute, or a name without a slash.
	Path string
	// Argv begins with the name that the program gets: Path, or under "@" the
	// word after it.
	Argv []string
	// Text is the command as written, without its prefix: specifiers, quotes and
	// escapes are in it. It is "" where the prefix itself is written with escapes.
	Text string
	// Warnings says what was taken as it is, such as an unknown escape.
	Warnings []string
}

// IgnoreFailure is the prefix "-".
func (c ExecCommand) IgnoreFailure() bool { return strings.Contains(c.Prefix, "-") }

var (
	execWords   = Splitter{Unquote: true, CUnescape: true}
	execRelaxed = Splitter{Unquote: true, CUnescape: true, UnescapeRelax: true}
)

// ParseExec reads the value of an Exec setting (systemd.service(5), "command
// lines"): one command, or several separated by a word ";". expand does the
// specifiers; nil does none. An unknown escape is kept with its backslash and a
// warning, as systemd does. The value "" has no command.
func ParseExec(value string, expand func(string) (string, error)) ([]ExecCommand, error) {
	if expand == nil {
		expand = func(s string) (string, error) { return s, nil }
	}
	var commands []ExecCommand
	rest := value
	for {
		c, after, err := nextCommand(rest, expand)
		if err != nil {
			return nil, err
		}
		if c == nil {
			return commands, nil
		}
		if c.Path != "" {
			commands = append(commands, *c)
		}
		rest = after
	}
}

// nextCommand reads up to the end or a ";". It gives nil at the end, and a
// command without a path for a ";" that follows nothing.
func nextCommand(s string, expand func(string) (string, error)) (*ExecCommand, string, error) {
	c := &ExecCommand{}
	word, rest, ok, err := c.word(s)
	if err != nil || !ok {
		return nil, "", err
	}
	if word == ";" {
		return c, rest, nil
	}
	program := word[prefixLen(word):]
	c.Prefix = word[:len(word)-len(program)]
	if program, err = expand(program); err != nil {
		return nil, "", err
	}
	if err := checkProgram(program); err != nil {
		return nil, "", err
	}
	c.Path = program
	if program[0] == '/' {
		c.Path = path.Clean(program)
	}
	if !strings.Contains(c.Prefix, "@") {
		c.Argv = append(c.Argv, program)
	}
	end := ""
	for rest != "" {
		// Both are looked at before quotes and escapes are taken off, so that
		// ";" and \\; are words.
		if after, ok := cutToken(rest, ";"); ok {
			rest, end = after, rest
			break
		}
		if after, ok := cutToken(rest, `\;`); ok {
			c.Argv, rest = append(c.Argv, ";"), after
			continue
		}
		if word, rest, ok, err = c.word(rest); err != nil {
			return nil, "", err
		} else if !ok {
			break
		}
		if word, err = expand(word); err != nil {
			return nil, "", err
		}
		c.Argv = append(c.Argv, word)
	}
	c.Text = withoutPrefix(s[:len(s)-len(end)], c.Prefix)
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return nil, "", errors.New("the prefix \"@\" wants the program's own name as the second word")
	}
	return c, rest, nil
}

// withoutPrefix takes the special prefixes off a command as written, also behind a
// quote that opens with them.
func withoutPrefix(s, prefix string) string {
	s = strings.Trim(s, whitespace)
	if after, ok := strings.CutPrefix(s, prefix); ok {
		return after
	}
	if s != "" && (s[0] == '"' || s[0] == '\'') {
		if after, ok := strings.CutPrefix(s[1:], prefix); ok {
			return s[:1] + after
		}
	}
	return ""
}

// word cuts a word off, strictly, then with unknown escapes left as they are.
func (c *ExecCommand) word(s string) (word, rest string, ok bool, err error) {
	word, rest, ok, err = execWords.Next(s)
	var unknown *EscapeError
	if errors.As(err, &unknown) {
		reason := err
		if word, rest, ok, err = execRelaxed.Next(s); err == nil {
			c.Warnings = append(c.Warnings, reason.Error()+": taken as it is")
		}
	}
	return word, rest, ok, err
}

// cutToken cuts a token that stands alone off the front.
func cutToken(s, token string) (string, bool) {
	after, ok := strings.CutPrefix(s, token)
	if !ok || after != "" && strings.IndexByte(whitespace, after[0]) < 0 {
		return s, false
	}
	return strings.TrimLeft(after, whitespace), true
}

// prefixLen counts the special prefixes: each once, of + ! !! one only.
func prefixLen(word string) int {
	seen := map[byte]int{}
	for i := range len(word) {
		c := word[i]
		switch c {
		case '-', '@', ':', '|':
			if seen[c] > 0 {
				return i
			}
		case '+':
			if seen['+']+seen['!'] > 0 {
				return i
			}
		case '!':
			if seen['+'] > 0 || seen['!'] > 1 {
				return i
			}
		default:
			return i
		}
		seen[c]++
	}
	return len(word)
}

func checkProgram(p string) error {
	switch {
	case p == "":
		return errors.New("no program in the command line")
	case !stringIsSafe(p):
		return fmt.Errorf("special characters in the program's name %q", abbreviate(p))
	case strings.HasSuffix(p, "/"):
		return fmt.Errorf("the program %q is a directory", abbreviate(p))
	case p[0] != '/' && (strings.Contains(p, "/") || p == "." || p == ".." || len(p) > 255):
		return fmt.Errorf("the program %q is neither an absolute path nor a plain name", abbreviate(p))
	case len(p) >= pathMax:
		return fmt.Errorf("the program's path is longer than %d bytes", pathMax-1)
	}
	return nil
}

// pathMax is the kernel's PATH_MAX, the final NUL counted.
const pathMax = 4096

// ExpandEnv replaces variables in the arguments of a command, as systemd does
// just before it executes one: a word $NAME becomes the words of the variable,
// none where it is not set; ${NAME} anywhere becomes its value as it is; $$ is
// a dollar. lookup is like os.LookupEnv. The program's own name is not
// expanded: give Argv[1:].
func ExpandEnv(words []string, lookup func(name string) (string, bool)) []string {
	var out []string
	for _, w := range words {
		if strings.HasPrefix(w, "$") && !strings.HasPrefix(w, "${") && !strings.HasPrefix(w, "$$") {
			if value, ok := lookup(w[1:]); ok {
				// Relax: a quote that is not closed ends with the value.
				split, _ := Splitter{Unquote: true, Relax: true}.All(value)
				out = append(out, split...)
			}
			continue
		}
		out = append(out, expandBraces(w, lookup))
	}
	return out
}

func expandBraces(w string, lookup func(string) (string, bool)) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(w, '$')
		if i < 0 || i+1 == len(w) {
			b.WriteString(w)
			return b.String()
		}
		b.WriteString(w[:i])
		switch w[i+1] {
		case '$':
			b.WriteByte('$')
			w = w[i+2:]
		case '{':
			end := strings.IndexByte(w[i:], '}')
			if end < 0 {
				b.WriteString(w[i:])
				return b.String()
			}
			value, _ := lookup(w[i+2 : i+end])
			b.WriteString(value)
			w = w[i+end+1:]
		default:
			b.WriteString(w[i : i+2])
			w = w[i+2:]
		}
	}
}
