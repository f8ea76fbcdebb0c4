package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/reload/status"
)

// A sample is one value of a metric: labels as in {a="b"}, without the name's.
type sample struct{ labels, value string }

// metrics are all metrics, in the order in which they are written: docs/status.md.
var metrics = []struct {
	name, help string
	of         func(*status.Status) []sample
}{
	{"extexec_live", "Whether processes of the service are there.", func(s *status.Status) []sample {
		if s.State == status.Unknown {
			return nil
		}
		return count(bit(s.State == status.Live))
	}},
	{"extexec_generation", "The generation that was last committed; 0 for none.", func(s *status.Status) []sample {
		return []sample{{"", strconv.FormatUint(s.Generation.Number, 10)}}
	}},
	{"extexec_generation_timestamp_seconds", "When that generation was committed.", func(s *status.Status) []sample {
		return moment(s.Generation.Time)
	}},
	{"extexec_extension_info", "An extension of the generation.", extensionInfo},
	{"extexec_refused_versions", "Versions that failed a check and are not picked again.", func(s *status.Status) []sample {
		return count(len(s.Refused))
	}},
	{"extexec_held_extensions", "Extensions that a rollback holds.", func(s *status.Status) []sample {
		return count(len(s.Holds))
	}},
	{"extexec_wrong_hierarchies", "Hierarchies that are not as they were recorded.", func(s *status.Status) []sample {
		return count(wrongHierarchies(s))
	}},
	{"extexec_covered_mounts", "Overlays that could not be detached, until a restart.", func(s *status.Status) []sample {
		return count(coveredMounts(s))
	}},
	{"extexec_stale_processes", "Processes in other mount namespaces that see an older generation.", func(s *status.Status) []sample {
		return count(s.Stale)
	}},
	{"extexec_last_attempt_timestamp_seconds", "When a start or a reload last tried something new.", func(s *status.Status) []sample {
		return moment(lastAttempt(s).Time)
	}},
	{"extexec_last_attempt_outcome", "How that ended: 1 for the outcome that it was.", lastOutcome},
}

// statusMetrics writes the metrics of these names, or of all that have a record.
func (a *app) statusMetrics(dirs state.Dirs, args []string) error {
	if len(args) == 0 {
		units, err := list(dirs)
		if err != nil && len(units) == 0 {
			return err
		}
		for _, u := range units {
			args = append(args, u.Name)
		}
		return a.writeMetrics(dirs, args)
	}
	var names []string
	for _, arg := range args {
		u, _, err := recorded(dirs, arg)
		if err != nil {
			return err
		}
		names = append(names, u.Name())
	}
	return a.writeMetrics(dirs, names)
}

// writeMetrics writes the text format of Prometheus, all that belongs to a metric in one
// place. A name whose record cannot be read is left out, and part of the error.
func (a *app) writeMetrics(dirs state.Dirs, names []string) error {
	var all []*status.Status
	var errs []error
	for _, name := range names {
		u, err := dirs.Unit(name)
		if err == nil {
			var s *status.Status
			if s, err = status.Read(u); err == nil {
				all = append(all, s)
				continue
			}
		}
		errs = append(errs, err)
	}
	var b bytes.Buffer
	for _, m := range metrics {
		var lines bytes.Buffer
		for _, s := range all {
			for _, one := range m.of(s) {
				fmt.Fprintf(&lines, "%s{name=%s%s} %s\n", m.name, label(s.Name), one.labels, one.value)
			}
		}
		if lines.Len() > 0 {
			fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s gauge\n%s", m.name, m.help, m.name, &lines)
		}
	}
	_, err := a.out.Write(b.Bytes())
	return errors.Join(append(errs, err)...)
}

func count(n int) []sample { return []sample{{"", strconv.Itoa(n)}} }

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func moment(t time.Time) []sample {
	if t.IsZero() {
		return nil
	}
	return []sample{{"", strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64)}}
}

func extensionInfo(s *status.Status) (list []sample) {
	for _, e := range s.Generation.Extensions {
		list = append(list, sample{fmt.Sprintf(",extension=%s,version=%s,class=%s,path=%s,verified=%s",
			label(e.Name), label(e.Version), label(strings.Join(e.Class, ",")), label(e.Path), label(e.Verified)), "1"})
	}
	return list
}

func wrongHierarchies(s *status.Status) (n int) {
	for _, h := range s.Hierarchies {
		n += bit(h.State != status.AsRecorded && h.State != status.NoOverlay && h.State != status.NotKnown)
	}
	return n
}

func coveredMounts(s *status.Status) (n int) {
	for _, h := range s.Hierarchies {
		n += h.Covered
	}
	for _, ns := range s.Namespaces {
		for _, h := range ns.Hierarchies {
			n += h.Covered
		}
	}
	return n
}

// lastAttempt is what failed since the last commit, else that.
func lastAttempt(s *status.Status) state.Generation {
	if s.LastAttempt != nil {
		return *s.LastAttempt
	}
	return s.Generation
}

func lastOutcome(s *status.Status) (list []sample) {
	last := lastAttempt(s)
	if last.Number == 0 {
		return nil
	}
	is := last.Outcome
	if s.LastAttempt == nil {
		is = state.OutcomeCommitted
	}
	for _, o := range []string{state.OutcomeCommitted, state.OutcomeRefused, state.OutcomeTakenBack, state.OutcomeUndoFailed} {
		list = append(list, sample{",outcome=" + label(o), strconv.Itoa(bit(o == is))})
	}
	return list
}

// label quotes the value of a label as the text format has it, which knows three escapes
// and UTF-8.
func label(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(s, "\uFFFD")) + `"`
}
