package reload

import (
	"context"
	"errors"
	"time"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/reload/state"
)

// What asked for a generation, in a record.
const (
	triggerRun      = "run"
	triggerReload   = "reload"
	triggerRollback = "rollback"
	triggerRepair   = "repair"
)

// attemptOf describes what is tried, as far as it is known before it is opened.
func attemptOf(picked []*extension.Picked) []state.Extension {
	var list []state.Extension
	for _, p := range picked {
		list = append(list, extensionOf(p))
	}
	return list
}

// extensionOf is what is known of an extension before it is opened.
func extensionOf(p *extension.Picked) state.Extension {
	return state.Extension{
		Ref: p.Ref.String(), Kind: p.Kind.String(), Name: p.Name, Version: p.Version, Path: p.Path, Identity: p.Identity, Changed: p.Changed,
	}
}

// remember writes into the history what did not come to stay. That it cannot is no
// further failure.
func (t *transaction) remember(ctx context.Context, err error) {
	var f *Failure
	if t.lock == nil || t.is == nil || t.trigger == triggerRepair || !errors.As(err, &f) {
		return
	}
	outcome := outcomeOf(ctx, f)
	if t.back != nil && f.Step == "pick" {
		outcome = "" // there is no such generation any more: nothing was tried
	}
	if outcome == "" {
		return
	}
	number, nerr := t.lock.NextNumber(t.is.record)
	if nerr != nil {
		return
	}
	g := state.Generation{
		Number: number, Time: time.Now().UTC(), Outcome: outcome, Why: f.Err.Error(), Trigger: t.trigger, Extensions: t.tried,
	}
	t.addHistory(g)
}

// addHistory adds a generation, after the one before it where a kill came between
// that one's commit and its line.
func (t *transaction) addHistory(g state.Generation) {
	keep := t.is.settings.KeepGenerations
	t.warn(t.lock.Complete(&t.is.record.Current, keep))
	t.warn(t.lock.AddHistory(g, keep))
}

// outcomeOf judges a failure for the history; "" where it says nothing about the
// extensions: an exchange that the kernel refused, a reload that was told to end.
func outcomeOf(ctx context.Context, f *Failure) string {
	switch {
	case f.Left == Broken:
		return state.OutcomeUndoFailed
	case f.Left == TakenBack:
		return state.OutcomeTakenBack
	case ctx.Err() != nil:
		return ""
	case f.Refused():
		return state.OutcomeRefused
	}
	return ""
}
