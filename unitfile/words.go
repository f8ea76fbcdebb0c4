package unitfile

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ErrUnbalancedQuotes is a quote that is opened and not closed.
var ErrUnbalancedQuotes = errors.New("unbalanced quotes")

// EscapeError is a backslash that does not begin a known C escape.
type EscapeError struct {
	Seq string // with its backslash
}

func (e *EscapeError) Error() string {
	if e.Seq == `\` {
		return "backslash at the end"
	}
	return fmt.Sprintf("unknown escape sequence %q", e.Seq)
}

// Splitter says how a string is split into words; it is systemd's
// extract_first_word with the flags that unit files need. The zero value
// splits at whitespace, drops backslashes and keeps quotes.
type Splitter struct {
	// Separators end a word; "" is whitespace. A run of them is one separator.
	Separators string
	// Unquote takes "..." and '...' as part of one word, without the quotes.
	Unquote bool
	// CUnescape decodes C escapes: \n, \s (space), \x41, \101, \u20ac, ...
	CUnescape bool
	// UnescapeSeparators takes \SEPARATOR and \\ as that character.
	UnescapeSeparators bool
	// RetainEscape leaves backslashes alone: they escape nothing.
	RetainEscape bool
	// UnescapeRelax keeps an unknown escape as it is, instead of an error.
	UnescapeRelax bool
	// Relax takes the end of the string as the end of a quote.
	Relax bool
}

// Next cuts the first word off s. ok is false where there is none. rest begins
// with the next word. The error is ErrUnbalancedQuotes or an *EscapeError.
func (x Splitter) Next(s string) (word, rest string, ok bool, err error) {
	seps := x.Separators
	if seps == "" {
		seps = whitespace
	}
	s = strings.TrimLeft(s, seps)
	if s == "" {
		return "", "", false, nil
	}
	b := make([]byte, 0, min(len(s), 256))
	var quote byte
	for i := 0; i < len(s); {
		c := s[i]
		i++
		switch {
		case c == '\\' && !x.RetainEscape:
			var n int
			b, n, err = x.appendEscape(b, s[i:], seps, quote)
			if err != nil {
				return "", "", false, err
			}
			i += n
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			b = append(b, c)
		case x.Unquote && (c == '"' || c == '\''):
			quote = c
		case strings.IndexByte(seps, c) >= 0:
			return string(b), strings.TrimLeft(s[i:], seps), true, nil
		default:
			b = append(b, c)
		}
	}
	if quote != 0 && !x.Relax {
		return "", "", false, ErrUnbalancedQuotes
	}
	return string(b), "", true, nil
}

// appendEscape decodes what follows a backslash and says how much of it that
// was.
func (x Splitter) appendEscape(b []byte, s, seps string, quote byte) ([]byte, int, error) {
	if s == "" {
		switch {
		case x.UnescapeRelax && (quote == 0 || x.Relax):
			return append(b, '\\'), 0, nil
		case x.Relax:
			return b, 0, nil
		case quote != 0:
			return nil, 0, ErrUnbalancedQuotes
		}
		return nil, 0, &EscapeError{Seq: `\`}
	}
	if !x.CUnescape && !x.UnescapeSeparators {
		return append(b, s[0]), 1, nil
	}
	if x.CUnescape {
		if out, n, ok := cUnescapeOne(b, s); ok {
			return out, n, nil
		}
	}
	switch {
	case x.UnescapeSeparators && (s[0] == '\\' || strings.IndexByte(seps, s[0]) >= 0):
		return append(b, s[0]), 1, nil
	case x.UnescapeRelax:
		return append(b, '\\', s[0]), 1, nil
	}
	_, n := utf8.DecodeRuneInString(s)
	return nil, 0, &EscapeError{Seq: `\` + s[:n]}
}

// All cuts s into all its words.
func (x Splitter) All(s string) ([]string, error) {
	var words []string
	for {
		w, rest, ok, err := x.Next(s)
		if err != nil {
			return nil, err
		}
		if !ok {
			return words, nil
		}
		words, s = append(words, w), rest
	}
}

// Words splits as most settings are split: at whitespace, quotes taken off,
// backslashes dropped.
func Words(s string) ([]string, error) { return Splitter{Unquote: true}.All(s) }

var simpleEscapes = map[byte]byte{
	'a': '\a', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v',
	'\\': '\\', '"': '"', '\'': '\'',
	's': ' ', // from the desktop entry files
}

// cUnescapeOne decodes one escape, without its backslash, as systemd's
// cunescape_one: NUL, bytes above 255 and invalid code points are refused. A
// surrogate (\ud800) is refused here, where systemd makes invalid UTF-8 of it.
func cUnescapeOne(b []byte, s string) (out []byte, n int, ok bool) {
	if c, ok := simpleEscapes[s[0]]; ok {
		return append(b, c), 1, true
	}
	switch c := s[0]; {
	case c == 'x':
		v, ok := digits(s[1:], 2, 16)
		return append(b, byte(v)), 3, ok
	case c == 'u':
		v, ok := digits(s[1:], 4, 16)
		return utf8.AppendRune(b, rune(v)), 5, ok && utf8.ValidRune(rune(v))
	case c == 'U':
		v, ok := digits(s[1:], 8, 16)
		return utf8.AppendRune(b, rune(v)), 9, ok && v <= utf8.MaxRune && utf8.ValidRune(rune(v))
	case c >= '0' && c <= '7':
		v, ok := digits(s, 3, 8)
		return append(b, byte(v)), 3, ok && v <= 255
	}
	return nil, 0, false
}

// digits reads exactly n digits of the base; zero is no value, since no string
// of a unit file holds a NUL.
func digits(s string, n int, base uint32) (uint32, bool) {
	if len(s) < n {
		return 0, false
	}
	var v uint32
	for i := range n {
		d := digit(s[i])
		if d >= base {
			return 0, false
		}
		v = v*base + d
	}
	return v, v != 0
}

func digit(c byte) uint32 {
	switch {
	case c >= '0' && c <= '9':
		return uint32(c - '0')
	case c >= 'a' && c <= 'f':
		return uint32(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return uint32(c-'A') + 10
	}
	return 255
}
