package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"
)

// What to do about a file that cannot be understood.
const (
	// What was started by hand, or with flags of run, cannot be told from the unit.
	recordRemedy  = "remove it and restart the service; if systemd runs it, and all its extensions are in its unit, a reload will do"
	pendingRemedy = "remove it; the next reload puts the hierarchies in order"
	memoryRemedy  = "remove it; refused and held versions may then be picked again"
	historyRemedy = "remove it; the unit then has no history to go back to"
)

func decodeRecord(file string, b []byte) (*Record, error) {
	r := &Record{}
	remedy := recordRemedy
	if filepath.Base(file) == nextFile {
		remedy = pendingRemedy
	}
	if err := decode(file, b, remedy, func(p *parser) { p.record(r) }); err != nil {
		return nil, err
	}
	return r, nil
}

func decodeGeneration(file string, b []byte) (*Generation, error) {
	g := &Generation{}
	if err := decode(file, b, historyRemedy, func(p *parser) { p.generation(g) }); err != nil {
		return nil, err
	}
	return g, nil
}

// decodeNumber reads the number of a generation alone.
func decodeNumber(file string, b []byte) (n uint64, err error) {
	err = decode(file, b, historyRemedy, func(p *parser) {
		p.object(func(key string) {
			if key != "number" {
				p.skip()
				return
			}
			n = p.unsigned()
		})
	})
	return n, err
}

// decodeCommitted reads of a generation whether it was committed. A line that
// cannot be read counts as one: it is reported by whoever wants all of it.
func decodeCommitted(b []byte) bool {
	// As encodeLine writes it, there are only numbers and a time before the outcome. A
	// line of 500 layers has 150 KiB, and this is asked of each.
	if bytes.Contains(b[:min(len(b), 160)], []byte(`,"outcome":"`+OutcomeCommitted+`"`)) {
		return true
	}
	var g Generation
	err := decode("", b, "", func(p *parser) {
		p.object(func(key string) {
			if key != "outcome" {
				p.skip()
				return
			}
			g.Outcome, p.done = p.text(), true
		})
	})
	return err != nil || g.Committed()
}

func decodeMemory(file string, b []byte) (*Memory, error) {
	m := &Memory{}
	err := decode(file, b, memoryRemedy, func(p *parser) { p.err = json.Unmarshal(b, m) })
	if err != nil {
		return nil, err
	}
	return m, nil
}

// decode looks at the schema before anything else, because the fields of a newer
// one may not fit, and then lets read have the value.
func decode(file string, b []byte, remedy string, read func(*parser)) error {
	if !json.Valid(b) {
		var any json.RawMessage
		err := json.Unmarshal(b, &any) // says where
		return &CorruptError{File: file, Remedy: remedy, Err: err}
	}
	schema := int64(0)
	head := &parser{b: b}
	head.object(func(key string) {
		if key != "schema" {
			head.skip()
			return
		}
		schema = head.number()
		head.done = true
	})
	switch {
	case head.err != nil:
		return &CorruptError{File: file, Remedy: remedy, Err: head.err}
	case schema > Schema:
		return &SchemaError{File: file, Schema: int(schema)}
	case schema < 1:
		return &CorruptError{File: file, Remedy: remedy, Err: errors.New("no schema number")}
	}
	p := &parser{b: b}
	read(p)
	if p.err != nil {
		return &CorruptError{File: file, Remedy: remedy, Err: p.err}
	}
	return nil
}

// A parser walks over JSON that is known to be valid. Why encoding/json does not do
// that is said at writer. After an error, or when done is set, it goes no further.
type parser struct {
	b    []byte
	i    int
	err  error
	done bool
}

func (p *parser) record(r *Record) {
	p.object(func(key string) {
		switch key {
		case "schema":
			r.Schema = int(p.number())
		case "name":
			r.Name = p.text()
		case "unit":
			r.Unit = p.text()
		case "mount_ns":
			r.MountNS = p.unsigned()
		case "pid":
			r.PID = int(p.number())
		case "start_time":
			r.StartTime = p.unsigned()
		case "boot":
			r.Boot = p.text()
		case "refs":
			r.Refs = objects(p, (*parser).ref)
		case "flags":
			r.Flags = p.flags()
		case "current":
			p.generation(&r.Current)
		default:
			p.skip()
		}
	})
}

func (p *parser) flags() map[string][]string {
	flags := map[string][]string{}
	p.object(func(key string) { flags[key] = p.texts() })
	return flags
}

func (p *parser) ref(r *Ref) {
	p.object(func(key string) {
		switch key {
		case "kind":
			r.Kind = p.text()
		case "text":
			r.Text = p.text()
		case "origin":
			r.Origin = p.text()
		default:
			p.skip()
		}
	})
}

func (p *parser) generation(g *Generation) {
	p.object(func(key string) {
		switch key {
		case "number":
			g.Number = p.unsigned()
		case "serial":
			g.Serial = p.unsigned()
		case "time":
			g.Time = p.time()
		case "outcome":
			g.Outcome = p.text()
		case "why":
			g.Why = p.text()
		case "trigger":
			g.Trigger = p.text()
		case "good":
			g.Good = p.truth()
		case "extensions":
			g.Extensions = objects(p, (*parser).extension)
		case "hierarchies":
			g.Hierarchies = objects(p, (*parser).hierarchy)
		default:
			p.skip()
		}
	})
}

func (p *parser) extension(e *Extension) {
	p.object(func(key string) {
		switch key {
		case "ref":
			e.Ref = p.text()
		case "kind":
			e.Kind = p.text()
		case "name":
			e.Name = p.text()
		case "version":
			e.Version = p.text()
		case "path":
			e.Path = p.text()
		case "class":
			e.Class = p.texts()
		case "identity":
			e.Identity = p.text()
		case "changed":
			e.Changed = p.text()
		case "verified":
			e.Verified = p.text()
		case "device":
			e.Device = p.text()
		case "hierarchies":
			e.Hierarchies = p.texts()
		default:
			p.skip()
		}
	})
}

func (p *parser) hierarchy(h *Hierarchy) {
	p.object(func(key string) {
		switch key {
		case "path":
			h.Path = p.text()
		case "point":
			h.Point = p.text()
		case "layers":
			h.Layers = int(p.number())
		case "covered":
			h.Covered = int(p.number())
		case "carried":
			h.Carried = objects(p, (*parser).carried)
		default:
			p.skip()
		}
	})
}

func (p *parser) carried(c *Carried) {
	p.object(func(key string) {
		switch key {
		case "path":
			c.Path = p.text()
		case "origin":
			c.Origin = p.text()
		case "link_lost":
			c.LinkLost = p.truth()
		default:
			p.skip()
		}
	})
}

// objects reads a list of objects.
func objects[T any](p *parser, one func(*parser, *T)) (list []T) {
	p.array(func() {
		var v T
		one(p, &v)
		list = append(list, v)
	})
	return list
}

// object calls field for every key; field reads the value, all of it.
func (p *parser) object(field func(key string)) {
	if !p.enter('{', "an object") {
		return
	}
	for p.more('}') {
		key := p.text()
		p.space()
		p.i++ // the colon
		field(key)
	}
}

// array calls element at every element, which it reads.
func (p *parser) array(element func()) {
	if !p.enter('[', "a list") {
		return
	}
	for p.more(']') {
		element()
	}
}

// enter goes into an object or a list; null is none, as in encoding/json.
func (p *parser) enter(open byte, what string) bool {
	p.space()
	if p.b[p.i] == open {
		p.i++
		return true
	}
	if string(p.token()) != "null" {
		p.fail(what)
	}
	return false
}

func (p *parser) more(end byte) bool {
	if p.err != nil || p.done {
		return false
	}
	p.space()
	switch p.b[p.i] {
	case end:
		p.i++
		return false
	case ',':
		p.i++
	}
	return true
}

func (p *parser) space() {
	for p.i < len(p.b) && (p.b[p.i] == ' ' || p.b[p.i] == '\t' || p.b[p.i] == '\n' || p.b[p.i] == '\r') {
		p.i++
	}
}

// token reads one value and returns its bytes.
func (p *parser) token() []byte {
	p.space()
	begin := p.i
	switch p.b[p.i] {
	case '{', '[':
		p.nested()
	case '"':
		p.quoted()
	default:
		for p.i < len(p.b) && bytes.IndexByte([]byte(",]} \t\n\r"), p.b[p.i]) < 0 {
			p.i++
		}
	}
	return p.b[begin:p.i]
}

func (p *parser) nested() {
	depth := 0
	for {
		switch p.b[p.i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			p.quoted()
			continue
		}
		p.i++
		if depth == 0 {
			return
		}
	}
}

func (p *parser) quoted() {
	p.i++
	for p.b[p.i] != '"' {
		if p.b[p.i] == '\\' {
			p.i++
		}
		p.i++
	}
	p.i++
}

func (p *parser) skip() { p.token() }

func (p *parser) text() string {
	t := p.token()
	switch {
	case string(t) == "null":
		return ""
	case t[0] != '"':
		p.fail("a text")
		return ""
	case plain(string(t[1 : len(t)-1])):
		return string(t[1 : len(t)-1])
	}
	var s string
	if err := json.Unmarshal(t, &s); err != nil {
		p.fail("a text")
	}
	return s
}

func (p *parser) texts() []string {
	var all []string
	p.array(func() { all = append(all, p.text()) })
	return all
}

func (p *parser) number() int64 {
	t := string(p.token())
	n, err := strconv.ParseInt(t, 10, 64)
	if err != nil && t != "null" {
		p.fail("a whole number")
	}
	return n
}

func (p *parser) unsigned() uint64 {
	t := string(p.token())
	n, err := strconv.ParseUint(t, 10, 64)
	if err != nil && t != "null" {
		p.fail("a whole number, not negative")
	}
	return n
}

func (p *parser) truth() bool {
	t := string(p.token())
	if t != "true" && t != "false" && t != "null" {
		p.fail("true or false")
	}
	return t == "true"
}

func (p *parser) time() (t time.Time) {
	if err := t.UnmarshalJSON(p.token()); err != nil {
		p.fail("a time as in RFC 3339")
	}
	return t
}

func (p *parser) fail(want string) {
	if p.err == nil {
		p.err = fmt.Errorf("byte %d is behind something that is not %s", p.i, want)
	}
}
