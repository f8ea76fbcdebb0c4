package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/extexec/extexec/internal/journald"
	"github.com/extexec/extexec/reload"
	"github.com/extexec/extexec/reload/state"
)

// event logs what the journal keeps as an entry with fields: docs/journal.md.
func (a *app) event(l slog.Level, id, text string, fields []slog.Attr) {
	a.log.LogAttrs(context.Background(), l, text, append(fields, slog.String("MESSAGE_ID", id))...)
}

// named are the fields that say which service is meant. By OBJECT_SYSTEMD_UNIT the entry
// is among those of "journalctl -u", also where we have ended before the journal has
// looked which unit we were in.
func named(name string) []slog.Attr {
	fields := []slog.Attr{slog.String("EXTEXEC_NAME", name)}
	if strings.HasSuffix(name, ".service") {
		fields = append(fields, slog.String("UNIT", name), slog.String("OBJECT_SYSTEMD_UNIT", name))
	}
	return fields
}

func withExtensions(fields []slog.Attr, generation uint64, all []state.Extension) []slog.Attr {
	return append(fields, slog.Uint64("EXTEXEC_GENERATION", generation), extensionPaths(all))
}

func extensionPaths(all []state.Extension) slog.Attr {
	var paths []string
	for _, e := range all {
		paths = append(paths, e.Path)
	}
	return slog.Any("EXTEXEC_EXTENSION", paths)
}

// logExchange says that a reload or a rollback has made a generation live.
func (a *app) logExchange(text string, res *reload.Result) {
	fields := withExtensions(named(res.Name), res.Generation.Number, res.Generation.Extensions)
	if res.Back != 0 {
		a.event(slog.LevelInfo, journald.IDRolledBack, text, append(fields, slog.Uint64("EXTEXEC_BACK_TO", res.Back)))
		return
	}
	a.event(slog.LevelInfo, journald.IDExchanged, text, fields)
}

// logFellBack says that a service was started with earlier extensions.
func (a *app) logFellBack(f reload.FellBack) {
	if f.Muted {
		a.log.Warn(f.Why)
		return
	}
	a.event(slog.LevelWarn, journald.IDFellBack, f.Why,
		append(withExtensions(named(f.Name), f.Generation, f.Extensions), slog.Uint64("EXTEXEC_BACK_TO", f.To)))
}

// logFailure logs an error, as an entry where it is a start's or a transaction's.
func (a *app) logFailure(text string, err error) {
	var r *reload.StartRefused
	if errors.As(err, &r) && !r.Muted {
		a.event(slog.LevelError, journald.IDStartRefused, text,
			append(named(r.Name), extensionPaths(r.Tried), slog.String("EXTEXEC_VERB", "run"), slog.String("EXTEXEC_STEP", r.Step)))
		return
	}
	var f *reload.Failure
	if !errors.As(err, &f) || f.Name == "" {
		a.log.Error(text)
		return
	}
	id := ""
	switch {
	case f.Left == reload.Broken:
		id = journald.IDUndoFailed
	case f.Left == reload.TakenBack:
		id = journald.IDTakenBack
	case f.Refused():
		id = journald.IDRefused
	default:
		a.log.Error(text)
		return
	}
	fields := append(withExtensions(named(f.Name), f.Live, f.Tried),
		slog.String("EXTEXEC_VERB", f.Verb), slog.String("EXTEXEC_STEP", f.Step))
	a.event(slog.LevelError, id, text, fields)
}
