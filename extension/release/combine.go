package release

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Demand is what one extension's release file of a class asks for.
type Demand struct {
	Extension string // its name
	Fields    map[string]string
}

// ConflictError says that no system fits two extensions.
type ConflictError struct {
	Field string
	A, B  string // the extensions
	Of    [2]string
}

func (e *ConflictError) Error() string {
	has := func(value string) string {
		if value == "" {
			return "no " + e.Field + "="
		}
		return fmt.Sprintf("%s=%q", e.Field, value)
	}
	return fmt.Sprintf("%q has %s and %q has %s: one release file cannot demand both", e.A, has(e.Of[0]), e.B, has(e.Of[1]))
}

// Combine gives the fields of one release file that demands what all of them demand: a system fits it where, and only
// where, it fits each of them. Where one file cannot say that, the error is a [*ConflictError].
//
// Of what is not matched, lists of units are joined, EXTENSION_RELOAD_MANAGER= counts where one sets it, and all else
// is kept where no two differ.
func Combine(class Class, all []Demand) (map[string]string, error) {
	if len(all) == 1 {
		return maps.Clone(all[0].Fields), nil
	}
	fields := map[string]string{}
	for _, d := range all {
		for key, value := range d.Fields {
			if old, ok := fields[key]; ok && old != value {
				value = "" // what is left of a difference is taken out at the end
			}
			fields[key] = value
		}
	}
	for _, combine := range []func(Class, []Demand, map[string]string) error{combineIdentity, combineArchitecture, combineScope, combineLists} {
		if err := combine(class, all, fields); err != nil {
			return nil, err
		}
	}
	maps.DeleteFunc(fields, func(_, value string) bool { return value == "" })
	return fields, nil
}

// combineIdentity: with ID=_any nothing more is asked for. The same level stands for any version.
func combineIdentity(class Class, all []Demand, fields map[string]string) error {
	level := class.prefix() + "LEVEL"
	bound := slices.DeleteFunc(slices.Clone(all), func(d Demand) bool { return d.Fields["ID"] == wildcard })
	for _, key := range []string{"ID", level, "VERSION_ID"} {
		fields[key] = ""
	}
	if len(bound) == 0 {
		fields["ID"] = wildcard
		return nil
	}
	first := bound[0]
	for _, key := range []string{"ID", level} {
		if err := same(key, bound); err != nil {
			return err
		}
		fields[key] = first.Fields[key]
	}
	if err := same("VERSION_ID", bound); err != nil {
		if first.Fields[level] == "" {
			return err
		}
		return nil
	}
	fields["VERSION_ID"] = first.Fields["VERSION_ID"]
	return nil
}

// same wants a field to be the same in all.
func same(key string, all []Demand) error {
	for _, d := range all[1:] {
		if a, b := all[0].Fields[key], d.Fields[key]; a != b {
			return &ConflictError{Field: key, A: all[0].Extension, B: d.Extension, Of: [2]string{a, b}}
		}
	}
	return nil
}

func combineArchitecture(_ Class, all []Demand, fields map[string]string) error {
	const key = "ARCHITECTURE"
	bound := slices.DeleteFunc(slices.Clone(all), func(d Demand) bool {
		a := d.Fields[key]
		return a == "" || a == wildcard
	})
	if len(bound) == 0 {
		return nil // Where they differ, as "" and "_any" do, neither asks for anything.
	}
	fields[key] = bound[0].Fields[key]
	return same(key, bound)
}

// combineScope keeps the scopes that all have.
func combineScope(class Class, all []Demand, fields map[string]string) error {
	key := class.prefix() + "SCOPE"
	if _, ok := fields[key]; !ok {
		return nil
	}
	common, from := scopes(class, all[0]), all[0]
	for _, d := range all[1:] {
		have := scopes(class, d)
		rest := slices.DeleteFunc(slices.Clone(common), func(s string) bool { return !slices.Contains(have, s) })
		if len(rest) == 0 {
			return &ConflictError{Field: key, A: from.Extension, B: d.Extension, Of: [2]string{strings.Join(common, " "), strings.Join(have, " ")}}
		}
		if len(rest) < len(common) {
			common, from = rest, d
		}
	}
	fields[key] = strings.Join(common, " ")
	return nil
}

func scopes(class Class, d Demand) []string {
	if s, ok := d.Fields[class.prefix()+"SCOPE"]; ok {
		return strings.Fields(s)
	}
	return strings.Fields(defaultScopes)
}

// combineLists joins what says what to do, or allows it.
func combineLists(_ Class, all []Demand, fields map[string]string) error {
	for _, key := range []string{"EXTENSION_RESTART_UNITS", "EXTENSION_RELOAD_OR_RESTART_UNITS", "PORTABLE_PREFIXES"} {
		var words []string
		for _, d := range all {
			for word := range strings.FieldsSeq(d.Fields[key]) {
				if !slices.Contains(words, word) {
					words = append(words, word)
				}
			}
		}
		fields[key] = strings.Join(words, " ")
	}
	const reload = "EXTENSION_RELOAD_MANAGER"
	for _, d := range all {
		if v := strings.ToLower(d.Fields[reload]); slices.Contains([]string{"1", "yes", "y", "true", "t", "on"}, v) {
			fields[reload] = "1"
		}
	}
	return nil
}

// Format writes a release file that [Parse] reads as these fields: ID first, the rest in the order of their names.
func Format(fields map[string]string) ([]byte, error) {
	keys := slices.SortedFunc(maps.Keys(fields), func(a, b string) int {
		if (a == "ID") != (b == "ID") {
			if a == "ID" {
				return -1
			}
			return 1
		}
		return cmp.Compare(a, b)
	})
	var text strings.Builder
	for _, key := range keys {
		value := fields[key]
		if strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" || key == "" {
			return nil, fmt.Errorf("write release file: %q cannot be the name of a field", key)
		}
		if strings.ContainsAny(value, "\n\r\x00") {
			return nil, fmt.Errorf("write release file: %s=%q has more than one line", key, value)
		}
		if plain := "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+:"; strings.Trim(value, plain) != "" || value == "" {
			value = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", `$`, `\$`).Replace(value) + `"`
		}
		text.WriteString(key + "=" + value + "\n")
	}
	return []byte(text.String()), nil
}
