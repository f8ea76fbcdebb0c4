package state

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is read from a file and written again is the same; nothing panics.
func FuzzDecode(f *testing.F) {
	r := record(3)
	r.Schema = Schema
	for _, v := range []any{r, Memory{Schema: 1, Refused: []Refused{{Identity: "x"}}}, line{Schema: 1, Generation: generation(2)}} {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"schema":2,"pid":"x"}`))
	f.Add([]byte(`{"schema":1,"current":{"time":"9999-12-31T23:59:59+23:59"}}`))
	f.Add([]byte("{}\n\n[\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		again(t, b, decodeRecord)
		again(t, b, decodeMemory)
		for _, l := range splitLines(b) {
			if g, err := decodeGeneration("x", l); err == nil {
				b, err := json.Marshal(line{Schema: 1, Generation: *g})
				must(t, err)
				again, err := decodeGeneration("x", b)
				must(t, err)
				if diff := cmp.Diff(g.Identities(), again.Identities()); diff != "" {
					t.Error(diff)
				}
			}
		}
	})
}

func again[T any](t *testing.T, b []byte, decode func(string, []byte) (*T, error)) {
	v, err := decode("x", b)
	if err != nil {
		return
	}
	b, err = json.Marshal(v)
	must(t, err)
	w, err := decode("x", b)
	must(t, err)
	c, err := json.Marshal(w)
	must(t, err)
	if string(b) != string(c) {
		t.Errorf("%s\n%s", b, c)
	}
}

// One reload's worth of files, in a process that has done it before. With -dir on a
// tmpfs: TMPDIR=/dev/shm.
func BenchmarkReload(b *testing.B) {
	u := unit(b, In(b.TempDir()), "web")
	l := lock(b, u)
	must(b, l.Save(record(1)))
	unlock(b, l)
	for b.Loop() {
		l, err := u.Lock(b.Context(), 0)
		must(b, err)
		r, err := l.Load()
		must(b, err)
		_, err = l.Memory()
		must(b, err)
		r.Current.Number, err = l.NextNumber(r)
		must(b, err)
		must(b, l.Begin(r))
		must(b, l.Commit())
		noWarning(b, l.AddHistory(r.Current, 10))
		unlock(b, l)
	}
}
