package status

import (
	"fmt"
	"os"

	"github.com/extexec/extexec/extension/version"
	"github.com/extexec/extexec/reload/state"
)

// Schema is the version of the JSON form of [Status]. Fields may be added without
// a new number.
const Schema = 1

// A Status is all that there is to say about one name.
type Status struct {
	Schema int    `json:"schema"`
	Name   string `json:"name"`
	Unit   string `json:"unit,omitempty"` // "" without a unit

	State State `json:"state"`
	// PIDs are the processes in the mount namespace of the record, PID the main one
	// among them; 0 when the recorded one is not.
	PID     int    `json:"pid,omitempty"`
	PIDs    []int  `json:"pids,omitempty"`
	MountNS uint64 `json:"mount_ns,omitempty"`

	// Generation is the last one that was committed; without one its number is 0.
	Generation state.Generation `json:"generation"`
	// Pending was begun and not committed. Reloading is the process that is at it,
	// and Interrupted says that there is none.
	Pending     *state.Generation `json:"pending,omitempty"`
	Reloading   int               `json:"reloading,omitempty"`
	Interrupted bool              `json:"interrupted,omitempty"`

	Hierarchies []Hierarchy `json:"hierarchies"`
	Extensions  []Extension `json:"extensions"`

	// LastAttempt is the newest line of the history where that was not committed: what
	// was refused or taken back since the generation, and why.
	LastAttempt *state.Generation `json:"last_attempt,omitempty"`

	// Namespaces are the other mount namespaces of the unit's processes that show
	// overlays of this name. Stale counts the processes in them that do not see the
	// current exchange.
	Namespaces []Namespace `json:"namespaces,omitempty"`
	Stale      int         `json:"stale,omitempty"`
	// OldMaps are the processes among PIDs that have files of an exchanged tree mapped,
	// such as the program that they run.
	OldMaps []int `json:"old_maps,omitempty"`

	Refused []state.Refused `json:"refused,omitempty"`
	Holds   []state.Hold    `json:"holds,omitempty"`

	// Notes say what could not be found out, and what is not as it should be.
	Notes []string `json:"notes,omitempty"`
}

// A State says whether the service that a record means is there.
type State string

// The states of a service.
const (
	Live    State = "live"    // processes are in its mount namespace
	Dead    State = "dead"    // none is
	Unknown State = "unknown" // that takes more privileges
)

// Read looks at one name. Without a record the error is an [io/fs.ErrNotExist].
func Read(u *state.Unit) (*Status, error) {
	r, err := u.Load()
	if err != nil {
		return nil, err
	}
	s := &Status{
		Schema: Schema, Name: u.Name(), Unit: r.Unit, MountNS: r.MountNS,
		Generation: r.Current, Pending: r.Pending,
		Hierarchies: []Hierarchy{}, Extensions: []Extension{},
	}
	if pid, held := u.Holder(); held {
		s.Reloading = pid
	} else {
		s.Interrupted = r.Pending != nil
	}
	m, err := u.Memory()
	if err != nil {
		s.note("what is refused and held is not known: %v", err)
		m = &state.Memory{}
	}
	m.Settle(r, version.Compare)
	s.Refused, s.Holds = m.Refused, m.Holds
	if h, err := u.History(); err != nil {
		s.note("what was tried is not known: %v", err)
	} else if h = h.With(&r.Current); len(h) > 0 && !h[len(h)-1].Committed() {
		s.LastAttempt = &h[len(h)-1]
	}
	s.live(r)
	s.elsewhere(u, r)
	s.onDisk(r, m)
	if s.Interrupted {
		s.note("generation %d was begun and neither committed nor taken back: the next reload puts that right", s.Pending.Number)
	}
	return s, nil
}

func (s *Status) note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

// privileged says whether what is not seen is not there.
func privileged() bool { return os.Geteuid() == 0 }
