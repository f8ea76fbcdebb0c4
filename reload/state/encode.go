package state

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"
)

// A writer writes records and generations as JSON, byte for byte as encoding/json
// does from the same types (held by a test). That package has to look at every type
// first, which takes longer in a new process than all else that is done here.
type writer struct {
	b   []byte
	err error
}

func encodeRecord(r *Record) ([]byte, error) {
	w := &writer{b: make([]byte, 0, 1024)}
	w.record(r)
	w.b = append(w.b, '\n')
	return w.b, w.err
}

// encodeLine writes a line of the history, without what ends it.
func encodeLine(g *Generation) ([]byte, error) {
	w := &writer{b: make([]byte, 0, 1024)}
	w.open('{')
	w.number("schema", Schema)
	w.generationFields(g)
	w.close('}')
	return w.b, w.err
}

func (w *writer) record(r *Record) {
	w.open('{')
	w.number("schema", int64(r.Schema))
	w.text("name", r.Name)
	w.optText("unit", r.Unit)
	w.unsigned("mount_ns", r.MountNS)
	if r.PID != 0 {
		w.number("pid", int64(r.PID))
	}
	if r.StartTime != 0 {
		w.unsigned("start_time", r.StartTime)
	}
	w.optText("boot", r.Boot)
	array(w, "refs", r.Refs, (*writer).ref)
	w.flags(r.Flags)
	w.key("current")
	w.open('{')
	w.generationFields(&r.Current)
	w.close('}')
	w.close('}')
}

func (w *writer) flags(flags map[string][]string) {
	if len(flags) == 0 {
		return
	}
	w.key("flags")
	w.open('{')
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		w.key(name)
		if flags[name] == nil {
			w.b = append(w.b, "null"...)
			continue
		}
		w.open('[')
		for _, v := range flags[name] {
			w.element(v)
		}
		w.close(']')
	}
	w.close('}')
}

func (w *writer) ref(r *Ref) {
	w.text("kind", r.Kind)
	w.text("text", r.Text)
	w.optText("origin", r.Origin)
}

func (w *writer) generationFields(g *Generation) {
	w.unsigned("number", g.Number)
	if g.Serial != 0 {
		w.unsigned("serial", g.Serial)
	}
	w.time("time", g.Time)
	w.optText("outcome", g.Outcome)
	w.optText("why", g.Why)
	w.optText("trigger", g.Trigger)
	if g.Good {
		w.key("good")
		w.b = append(w.b, "true"...)
	}
	array(w, "extensions", g.Extensions, (*writer).extension)
	array(w, "hierarchies", g.Hierarchies, (*writer).hierarchy)
}

func (w *writer) extension(e *Extension) {
	w.text("ref", e.Ref)
	w.text("kind", e.Kind)
	w.text("name", e.Name)
	w.optText("version", e.Version)
	w.text("path", e.Path)
	w.optTexts("class", e.Class)
	w.text("identity", e.Identity)
	w.optText("changed", e.Changed)
	w.optText("verified", e.Verified)
	w.optText("device", e.Device)
	w.optTexts("hierarchies", e.Hierarchies)
}

func (w *writer) hierarchy(h *Hierarchy) {
	w.text("path", h.Path)
	w.optText("point", h.Point)
	w.number("layers", int64(h.Layers))
	if h.Covered != 0 {
		w.number("covered", int64(h.Covered))
	}
	array(w, "carried", h.Carried, (*writer).carried)
}

func (w *writer) carried(c *Carried) {
	w.text("path", c.Path)
	w.optText("origin", c.Origin)
	if c.LinkLost {
		w.key("link_lost")
		w.b = append(w.b, "true"...)
	}
}

// array writes a list of objects, nothing when it is empty.
func array[T any](w *writer, key string, list []T, fields func(*writer, *T)) {
	if len(list) == 0 {
		return
	}
	w.key(key)
	w.open('[')
	for i := range list {
		w.comma()
		w.open('{')
		fields(w, &list[i])
		w.close('}')
	}
	w.close(']')
}

func (w *writer) open(c byte)  { w.b = append(w.b, c) }
func (w *writer) close(c byte) { w.b = append(w.b, c) }

// comma writes one, unless it would be the first thing in an object or an array. A
// text ends in a quote, so a bracket is always one of ours.
func (w *writer) comma() {
	if last := w.b[len(w.b)-1]; last != '{' && last != '[' {
		w.b = append(w.b, ',')
	}
}

func (w *writer) key(name string) {
	w.comma()
	w.quote(name)
	w.b = append(w.b, ':')
}

func (w *writer) text(key, value string) {
	w.key(key)
	w.quote(value)
}

func (w *writer) optText(key, value string) {
	if value != "" {
		w.text(key, value)
	}
}

func (w *writer) element(value string) {
	w.comma()
	w.quote(value)
}

func (w *writer) optTexts(key string, values []string) {
	if len(values) == 0 {
		return
	}
	w.key(key)
	w.open('[')
	for _, v := range values {
		w.element(v)
	}
	w.close(']')
}

func (w *writer) number(key string, n int64) {
	w.key(key)
	w.b = strconv.AppendInt(w.b, n, 10)
}

func (w *writer) unsigned(key string, n uint64) {
	w.key(key)
	w.b = strconv.AppendUint(w.b, n, 10)
}

func (w *writer) time(key string, t time.Time) {
	w.key(key)
	b, err := t.MarshalJSON()
	if err != nil && w.err == nil {
		w.err = err
	}
	w.b = append(w.b, b...)
}

// quote leaves whatever needs thought to encoding/json.
func (w *writer) quote(s string) {
	if plain(s) {
		w.b = append(append(append(w.b, '"'), s...), '"')
		return
	}
	b, err := json.Marshal(s)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.b = append(w.b, b...)
}

// plain says whether a text is the same in JSON but for the quotes.
func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c > '~':
			return false
		case c == '"' || c == '\\' || c == '<' || c == '>' || c == '&':
			return false
		}
	}
	return true
}
