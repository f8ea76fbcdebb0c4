package lint

import "fmt"

// Severity says how bad a finding is.
type Severity string

// The severities. An Error makes a start or a reload fail, or not do its job; a
// Warning may not be what was meant; a Note is good to know.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Note    Severity = "note"
)

// Finding is one thing about a unit.
type Finding struct {
	Severity Severity `json:"severity"`
	File     string   `json:"file,omitempty"`
	Line     int      `json:"line,omitempty"` // 0 where no single line is meant
	Setting  string   `json:"setting,omitempty"`
	Text     string   `json:"message"`
	Remedy   string   `json:"remedy,omitempty"`
}

// String is one line: the place, the severity, what is found, and what to do.
func (f Finding) String() string {
	text := string(f.Severity) + ": " + f.Text
	switch {
	case f.Line > 0:
		text = fmt.Sprintf("%s:%d: %s", f.File, f.Line, text)
	case f.File != "":
		text = f.File + ": " + text
	}
	if f.Remedy != "" {
		text += ": " + f.Remedy
	}
	return text
}

// Way is how a unit has its extensions.
type Way string

// The ways.
const (
	Wrapper Way = "wrapper" // ExecStart= is extexec run
	Adopt   Way = "adopt"   // systemd applies what [Service] lists
	None    Way = "none"    // neither yet
)

// Report is all that is found about a unit.
type Report struct {
	Unit string `json:"unit"`
	Way  Way    `json:"way"`
	// NoWrapper and NoAdopt say why the unit cannot have that way; empty where it
	// can.
	NoWrapper []Finding `json:"no_wrapper"`
	NoAdopt   []Finding `json:"no_adopt"`
	Findings  []Finding `json:"findings"`
}

// Failed tells whether there is an Error.
func (r Report) Failed() bool {
	for _, f := range r.Findings {
		if f.Severity == Error {
			return true
		}
	}
	return false
}
