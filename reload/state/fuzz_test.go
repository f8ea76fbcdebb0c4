package state

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// A line is what the history file has, as a type.
type line struct {
	Schema int `json:"schema"`
	Generation
}

// fill gives every field of v a value that is not zero, each another one.
func fill(v reflect.Value, n *int) {
	*n++
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(int64(*n), 123).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") != "-" {
				fill(v.Field(i), n)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.Map:
		for range 3 {
			e := reflect.New(v.Type().Elem()).Elem()
			fill(e, n)
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			v.SetMapIndex(reflect.ValueOf(fmt.Sprintf("key %d", *n)), e)
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d \"<&>\\ü\x01\xff{[", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(int64(-*n))
	case reflect.Uint64:
		v.SetUint(1<<63 + uint64(*n))
	default:
		panic(v.Kind().String())
	}
}

// What is written is what encoding/json would write, and is read as it would read
// it: no field is forgotten on either side.
func TestSameAsEncodingJSON(t *testing.T) {
	var full Record
	n := 0
	fill(reflect.ValueOf(&full).Elem(), &n)
	full.Schema = Schema
	odd := *record(2)
	odd.Schema = Schema
	odd.Flags = map[string][]string{"nil": nil, "empty": {}, "": {""}}
	for name, r := range map[string]*Record{"full": &full, "usual": record(1), "zero": {}, "odd": &odd} {
		want, err := json.Marshal(r)
		must(t, err)
		got, err := encodeRecord(r)
		must(t, err)
		if diff := cmp.Diff(string(want)+"\n", string(got)); diff != "" {
			t.Errorf("%s, written (-want +got):\n%s", name, diff)
		}
		if r.Schema != Schema {
			continue
		}
		var wantRead Record
		must(t, json.Unmarshal(want, &wantRead))
		gotRead, err := decodeRecord("x", got)
		must(t, err)
		if diff := cmp.Diff(&wantRead, gotRead, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s, read (-want +got):\n%s", name, diff)
		}
		wantLine, err := json.Marshal(line{Schema: Schema, Generation: r.Current})
		must(t, err)
		gotLine, err := encodeLine(&r.Current)
		must(t, err)
		if diff := cmp.Diff(string(wantLine), string(gotLine)); diff != "" {
			t.Errorf("%s, line (-want +got):\n%s", name, diff)
		}
		if number, err := decodeNumber("x", gotLine); err != nil || number != r.Current.Number {
			t.Errorf("%s, number: %d, %v", name, number, err)
		}
		g, err := decodeGeneration("x", gotLine)
		must(t, err)
		if diff := cmp.Diff(wantRead.Current, *g, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s, line read (-want +got):\n%s", name, diff)
		}
	}
	bad := *record(1)
	bad.Current.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err := encodeRecord(&bad); err == nil {
		t.Error("a year of five digits was written")
	}
}

// Other forms of the same JSON: blanks, an order of their own, unknown fields.
func TestReadOtherForms(t *testing.T) {
	got, err := decodeRecord("x", []byte(` { "later" : [ { "a" : "]}\"" } , 1.5e3 , null ] , "name" : "w\u0065b" , "pid" : null,
		"refs" : null, "flags":{}, "current" : { "hierarchies" : [ ] , "number" : 7 , "new":{"x":[[{}]]} } , "schema" : 1 } `))
	must(t, err)
	want := &Record{Schema: 1, Name: "web", Current: Generation{Number: 7}}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

func TestReadWrongTypes(t *testing.T) {
	for _, field := range []string{
		`"name":1`, `"name":{}`, `"pid":"1"`, `"pid":1.5`, `"pid":1e3`, `"mount_ns":-1`, `"mount_ns":18446744073709551616`, `"mount_ns":true`,
		`"refs":{}`, `"refs":[1]`, `"refs":"x"`, `"flags":[]`, `"flags":{"a":"b"}`, `"flags":{"a":[1]}`, `"current":[]`, `"current":{"good":1}`,
		`"current":{"time":"yesterday"}`, `"current":{"time":5}`, `"current":{"extensions":[{"class":"x"}]}`, `"current":{"hierarchies":[{"layers":"x"}]}`,
	} {
		b := []byte(`{"schema":1,` + field + `,"unit":"u"}`)
		if r, err := decodeRecord("x", b); err == nil || !strings.Contains(err.Error(), "is not") {
			t.Errorf("%s: %+v, %v", field, r, err)
		}
		if err := json.Unmarshal(b, &Record{}); err == nil {
			t.Errorf("%s: encoding/json takes it", field)
		}
	}
}

// Nothing panics; what is read and written again is the same; and what is read is
// what encoding/json reads, where that takes it (it matches keys in any case, and
// adds to lists that come twice: such files it is not asked about).
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
	f.Add([]byte(` { "schema" : 1 , "refs" : [ null , { } ] , "flags" : { "a\u0000" : null } } `))
	f.Add([]byte("{}\n\n[\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeMemory("x", b); err == nil {
			again, err := json.Marshal(m)
			must(t, err)
			_, err = decodeMemory("x", again)
			must(t, err)
		}
		for _, l := range splitLines(b) {
			number, err := decodeNumber("x", l)
			g, err2 := decodeGeneration("x", l)
			if err2 == nil && (err != nil || g.Number != number) {
				t.Errorf("number %d, %v; generation %d", number, err, g.Number)
			}
		}
		r, err := decodeRecord("x", b)
		if err != nil {
			return
		}
		written, err := encodeRecord(r)
		must(t, err)
		second, err := decodeRecord("x", written)
		must(t, err)
		if diff := cmp.Diff(r, second, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
		var std Record
		must(t, json.Unmarshal(written, &std))
		if diff := cmp.Diff(r, &std, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

// One reload's worth of files, in a process that has done it before; for a tmpfs,
// TMPDIR=/dev/shm.
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
