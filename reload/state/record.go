package state

import "time"

// Schema is the version of the file format that this package writes. Fields may be
// added without a new number; a number that is higher means that an older program
// must not touch the file.
const Schema = 1

// A Record is what extexec knows of one unit or name while it runs: where it
// lives, what it asked for, and what it shows.
type Record struct {
	Schema int    `json:"schema"` // set by Save and Begin
	Name   string `json:"name"`   // set by Save and Begin
	// Unit is the unit's name, or the path of its file where it was given so; ""
	// without a unit.
	Unit string `json:"unit,omitempty"`

	// MountNS is the id of the mount namespace that the hierarchies were exchanged
	// in, as service.MountNS gives it: the kernel's 64-bit id, or, with its highest
	// bit set, an inode number.
	MountNS uint64 `json:"mount_ns"`
	// PID is the main process when the record was written. It is information, not a
	// key: a service may go on in another process.
	PID int `json:"pid,omitempty"`
	// StartTime is when PID was started, in clock ticks after boot as
	// /proc/PID/stat has it.
	StartTime uint64 `json:"start_time,omitempty"`

	// Boot is the boot in which the record was written (/proc/sys/kernel/random/boot_id):
	// ids are given again in the next one. "" where that was not known.
	Boot string `json:"boot,omitempty"`

	// Refs are the extensions asked for, as given, in layer order.
	Refs []Ref `json:"refs,omitempty"`
	// Flags are the other settings that were given as flags of run, by the name of
	// the flag.
	Flags map[string][]string `json:"flags,omitempty"`

	// Current is the committed generation; its number is 0 where none was committed.
	Current Generation `json:"current"`

	// Pending is a generation that was begun and neither committed nor aborted: a
	// reload is at work, or one was interrupted. It is kept in a file of its own.
	Pending *Generation `json:"-"`
}

// A Ref is one extension as asked for: its kind, which says how the text is to be
// parsed, and the text.
type Ref struct {
	Kind   string `json:"kind"` // "image" or "directory"
	Text   string `json:"text"`
	Origin string `json:"origin,omitempty"` // "service", "extexec" or "flag"
}

// A Generation is one state of a unit: what was laid over its hierarchies.
type Generation struct {
	// Number counts the generations of a name for ever, over restarts and reboots.
	Number uint64 `json:"number"`
	// Serial is that of the exchange that made it visible; within one namespace a
	// later exchange has a higher one.
	Serial uint64    `json:"serial,omitempty"`
	Time   time.Time `json:"time"`
	// Outcome is how it ended: one of the Outcome words.
	Outcome string `json:"outcome,omitempty"`
	// Why is what went wrong, where it was not committed.
	Why string `json:"why,omitempty"`
	// Trigger is who asked for it: "run", "reload", "rollback", …
	Trigger string `json:"trigger,omitempty"`
	// Good says that this set of extensions passed every check that there was.
	Good bool `json:"good,omitempty"`

	Extensions  []Extension `json:"extensions,omitempty"` // in layer order
	Hierarchies []Hierarchy `json:"hierarchies,omitempty"`
}

// The outcomes of a generation. One that was not committed is in the history only.
const (
	OutcomeCommitted  = "committed"
	OutcomeRefused    = "refused"     // it never went live
	OutcomeTakenBack  = "taken back"  // it was live, and the one before is again
	OutcomeUndoFailed = "undo failed" // it could not be taken back whole
)

// Committed says whether the generation came to stay.
func (g *Generation) Committed() bool { return g.Outcome == OutcomeCommitted || g.Outcome == "" }

// Identities returns the identities of the extensions, in layer order.
func (g *Generation) Identities() []string {
	ids := make([]string, len(g.Extensions))
	for i := range g.Extensions {
		ids[i] = g.Extensions[i].Identity
	}
	return ids
}

// An Extension is one extension of a generation.
type Extension struct {
	Ref      string   `json:"ref"`               // as written
	Kind     string   `json:"kind"`              // "image" or "directory"
	Name     string   `json:"name"`              // as its release file is named
	Version  string   `json:"version,omitempty"` // from the name of the picked file
	Path     string   `json:"path"`              // what was picked, in the host view
	Class    []string `json:"class,omitempty"`   // "sysext", "confext"
	Identity string   `json:"identity"`          // equal means the same extension
	// Changed is when its file was last changed, where the identity does not say that.
	Changed string `json:"changed,omitempty"`
	// Verified is how its contents were verified; "" where they were not.
	Verified string `json:"verified,omitempty"`
	// Device is the dm-verity device by which the kernel verifies it; "" where that
	// does not. It is this one's as long as the generation is live.
	Device string `json:"device,omitempty"`
	// Hierarchies are those that it gives a layer to.
	Hierarchies []string `json:"hierarchies,omitempty"`
}

// Same tells whether two are the same extension. Of what has the same identity and the
// same path, but was changed, nobody can tell, so it is another; of what was renamed, the
// rename was the change.
func (e *Extension) Same(o *Extension) bool {
	changed := e.Path == o.Path && e.Changed != "" && o.Changed != "" && e.Changed != o.Changed
	return e.Identity == o.Identity && !changed
}

// A Hierarchy is what a generation made of one hierarchy.
type Hierarchy struct {
	Path string `json:"path"` // as it was asked for: "/opt"
	// Point is where it is, links followed ("/var/opt"); "" where that is Path.
	Point  string `json:"point,omitempty"`
	Layers int    `json:"layers"` // without the base
	// Covered counts older trees that stay beneath because they could not be
	// detached.
	Covered int       `json:"covered,omitempty"`
	Carried []Carried `json:"carried,omitempty"`
}

// A Carried is a mount below a hierarchy that was carried to the new tree.
type Carried struct {
	Path   string `json:"path"`
	Origin string `json:"origin,omitempty"` // whose mount it was: "unit", "host", …
	// LinkLost says that what the host mounts below it from now on does not appear.
	LinkLost bool `json:"link_lost,omitempty"`
}

// A Memory is what outlives the service and the boot, besides the history: which
// extensions must not be picked again.
type Memory struct {
	Schema  int       `json:"schema"`
	Refused []Refused `json:"refused,omitempty"`
	Holds   []Hold    `json:"holds,omitempty"`
}

// A Refused is an extension that failed a check; it is not picked again.
type Refused struct {
	Identity string    `json:"identity"`
	Path     string    `json:"path,omitempty"`
	Why      string    `json:"why,omitempty"`
	Time     time.Time `json:"time"`
}

// A Hold keeps a ref from picking what a rollback left, until something newer
// appears.
type Hold struct {
	// Kind is that of the ref: an image and a directory may be picked from one ".v/".
	// "" is either.
	Kind string `json:"kind,omitempty"`
	Ref  string `json:"ref"`
	// Version is the newest one that is held, and Above the one that was gone back
	// to: held is what is newer than Above, up to and including Version. Where the
	// extension has no version both are "", and Identity alone is held.
	Version string `json:"version"`
	Above   string `json:"above,omitempty"`
	// Identity is that of the extension that was left.
	Identity string `json:"identity,omitempty"`
	// Without says that the generation that was gone back to has nothing of this
	// ref: that all of it is held is no error then.
	Without bool      `json:"without,omitempty"`
	Why     string    `json:"why,omitempty"`
	Time    time.Time `json:"time"`
}

// Of says whether it is the hold of a ref.
func (h *Hold) Of(kind, ref string) bool { return h.Ref == ref && (h.Kind == kind || h.Kind == "") }

// Covers says whether a candidate is held; compare orders two versions.
func (h *Hold) Covers(version, identity string, compare func(a, b string) int) bool {
	if h.Identity != "" && h.Identity == identity {
		return true
	}
	if h.Version == "" || version == "" {
		return false
	}
	return compare(version, h.Version) <= 0 && (h.Above == "" || compare(version, h.Above) > 0)
}
