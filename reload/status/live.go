package status

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/hierarchy"
	"github.com/extexec/extexec/reload/recorded"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/service"
)

// A Hierarchy is one hierarchy, live against recorded.
type Hierarchy struct {
	Path  string `json:"path"`
	Point string `json:"point,omitempty"` // where it is when that is elsewhere

	State  HierarchyState `json:"state"`
	Layers int            `json:"layers"` // recorded, without the base
	// Live is the overlay of ours that is on top, nil where none is.
	Live *Overlay `json:"live,omitempty"`
	// Top is what is mounted there, as the mount table names its source; "" for
	// nothing.
	Top string `json:"top,omitempty"`
	// Covered counts trees beneath the visible one that could not be detached.
	Covered int `json:"covered,omitempty"`
	// Carried are the mounts below it at the last exchange: of the unit or of the
	// host, and whether they lost their link to the host's.
	Carried []state.Carried `json:"carried,omitempty"`
}

// An Overlay is one of ours in a mount table.
type Overlay struct {
	Generation uint64 `json:"generation"`
	Serial     uint64 `json:"serial"`
}

// A HierarchyState says how what is live compares with the record.
type HierarchyState string

// The states of a hierarchy.
const (
	AsRecorded    HierarchyState = "as recorded"
	NoOverlay     HierarchyState = "no overlay"       // and none was recorded
	Missing       HierarchyState = "missing"          // none is there, one was recorded
	OtherThan     HierarchyState = "other generation" // ours, of another generation
	UnderMount    HierarchyState = "under a mount"    // ours, below something else
	HalfExchanged HierarchyState = "half exchanged"   // a later one of ours lies beneath
	NotKnown      HierarchyState = "unknown"
)

// Alive says whether the service of a record is there, which is its main process
// where that is known, and all that are in its mount namespace. Others that have come to
// bear the recorded ids are not taken for it.
func Alive(r *state.Record) (s State, pid int, pids []int) {
	if r.MountNS == 0 {
		return Unknown, 0, nil
	}
	if recorded.Outlived(r) {
		return Dead, 0, nil
	}
	pids, err := recorded.Processes(r)
	if err == nil && len(pids) > 0 {
		main, _ := recorded.Process(r) // one that cannot be had is not known to be it
		if main != nil {
			pid = main.PID()
			_ = main.Close() // it only held the process
		}
		return Live, pid, pids
	}
	if privileged() && err == nil {
		return Dead, 0, nil
	}
	// Namespaces of others are not shown to everyone, but when a process started is.
	p, err := service.Open(r.PID)
	if err != nil {
		return Unknown, 0, nil
	}
	defer p.Close()
	if r.StartTime != 0 && p.StartTime() == r.StartTime {
		return Live, r.PID, []int{r.PID}
	}
	return Unknown, 0, nil
}

// live fills in the service and its hierarchies.
func (s *Status) live(r *state.Record) {
	s.State, s.PID, s.PIDs = Alive(r)
	var table *nsmount.Table
	if s.State == Live {
		t, err := s.table(r)
		if err != nil {
			s.note("what is mounted is not known: %v", err)
		}
		table = t
		s.mapped(t)
	}
	for _, h := range r.Current.Hierarchies {
		got := compare(h, r, s.Name, table)
		s.Hierarchies = append(s.Hierarchies, got)
		switch got.State {
		case Missing, OtherThan, HalfExchanged:
			s.note("%s is not as recorded (%s): reload it", h.Path, got.State)
		case UnderMount:
			s.note("%s: %q was mounted over the overlay: unmount it, or restart the service", h.Path, got.Top)
		}
	}
}

// table reads the mount table of the service from the first of its processes that
// lets us.
func (s *Status) table(r *state.Record) (*nsmount.Table, error) {
	pids := s.PIDs
	if s.PID != 0 {
		pids = append([]int{s.PID}, pids...)
	}
	err := errors.New("its processes ended meanwhile")
	for _, pid := range pids {
		t, e := tableOf(pid, r.MountNS)
		if e == nil {
			return t, nil
		}
		err = e
	}
	return nil, err
}

func tableOf(pid int, ns uint64) (*nsmount.Table, error) {
	p, err := service.Open(pid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if id, err := p.MountNS(); err != nil {
		return nil, err
	} else if id != ns {
		return nil, fmt.Errorf("process %d left the mount namespace", pid)
	}
	return p.MountTable()
}

// pointOf is where a hierarchy is.
func pointOf(h state.Hierarchy) string { return cmp.Or(h.Point, h.Path) }

// compare looks at one recorded hierarchy in a mount table, nil when there is none.
func compare(h state.Hierarchy, r *state.Record, name string, t *nsmount.Table) Hierarchy {
	got := Hierarchy{Path: h.Path, Point: h.Point, Layers: h.Layers, Carried: h.Carried, State: NotKnown}
	if t == nil {
		return got
	}
	point := pointOf(h)
	var latest uint64 // serial
	ours, systemds := 0, 0
	stack := t.Stack(point)
	for i, m := range stack {
		top := i == len(stack)-1
		if top {
			got.Top = m.Source
		}
		owner, source := hierarchy.OwnerOf(m)
		if owner == hierarchy.Systemd {
			systemds++
		}
		if owner != hierarchy.Ours || !source.Names(name) {
			continue
		}
		ours++
		latest = max(latest, source.Serial)
		if top {
			got.Live = &Overlay{Generation: source.Generation, Serial: source.Serial}
		}
	}
	got.Covered = max(ours+systemds-1, 0)
	got.State = judge(got.Live, ours, latest, r.Current.Number, h.Layers)
	return got
}

func judge(live *Overlay, ours int, latest, number uint64, layers int) HierarchyState {
	switch {
	case ours == 0 && layers == 0:
		return NoOverlay
	case ours == 0:
		return Missing
	case live == nil:
		return UnderMount
	case live.Serial < latest:
		return HalfExchanged
	case live.Generation != number:
		return OtherThan
	}
	return AsRecorded
}
