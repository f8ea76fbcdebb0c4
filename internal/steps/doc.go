// Package steps runs a transaction: a list of named steps, each with its inverse
// written beside it. The data that one step hands to the next stays in typed
// locals of the function that runs the transaction, so that this function reads
// like the list that it is:
//
//	run := &steps.Run{}
//	defer func() { err = errors.Join(err, run.Close()) }()
//	defer func() {
//		if err != nil {
//			err = errors.Join(err, run.Undo(ctx))
//		}
//	}()
//	staged, err := steps.Do(ctx, run, "stage", stage(opened))
//	…
//	exchanged, err := steps.Do(ctx, run, "exchange", exchange(staged))
//
// # Contract
//
// A step whose Do fails has left nothing behind: its own inverse is not called,
// those of the steps before it are, last first, when the caller calls [Run.Undo].
// Each inverse is attempted even when another one failed; every failure is an
// [*UndoError] in what Undo returns, which errors.As finds. Undo works although
// the context of the transaction was cancelled, and for a bounded time.
//
// [Run.OnUndo] registers the inverse of a step that comes later, for the cases
// where inverses must not run in the reverse order of their steps. [Run.Own] takes
// what is released however the transaction ends, by [Run.Close].
//
// # Threads
//
// A Run belongs to one goroutine. Steps, inverses and the hook run on the
// goroutine that calls Do and Undo, never on another one, so a caller that is
// locked to a thread inside a mount namespace stays there.
//
// # Tests
//
// The hook is called before and after every step and every inverse, with the name
// of the point: "before exchange", "after exchange", "before undo exchange",
// "after undo exchange". A test that returns an error there fails that point, one
// that kills the process there shows what a crash leaves. [Run.Steps] has the
// names of the steps that were begun, in order, so that a test can go over all of
// them without a list of its own.
//
// # Not for
//
// Steps that run at the same time, or a list of steps that is only known at run
// time: that is a plan, and belongs to the package that makes it.
package steps
