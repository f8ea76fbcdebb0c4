package steps_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/extexec/extexec/internal/steps"
	"github.com/google/go-cmp/cmp"
)

// A tape is what happened, in order.
type tape []string

func (t *tape) step(name string, fail error) steps.Step[string] {
	return steps.Step[string]{
		Do: func(context.Context) (string, error) {
			*t = append(*t, "do "+name)
			return name + "'s value", fail
		},
		Undo: func(_ context.Context, v string) error {
			*t = append(*t, "undo "+name+" of "+v)
			return nil
		},
	}
}

type closer func() error

func (c closer) Close() error { return c() }

// transaction is a miniature of a reload: three steps, the inverse of the last one
// registered before the second.
func transaction(ctx context.Context, run *steps.Run, t *tape) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, run.Undo(ctx))
		}
		err = errors.Join(err, run.Close())
	}()
	run.Own(closer(func() error { *t = append(*t, "close"); return nil }))
	if _, err = steps.Do(ctx, run, "stage", t.step("stage", nil)); err != nil {
		return err
	}
	run.OnUndo("apply", func(context.Context) error { *t = append(*t, "re-apply"); return nil })
	if _, err = steps.Do(ctx, run, "exchange", t.step("exchange", nil)); err != nil {
		return err
	}
	apply := t.step("apply", nil)
	apply.Undo = nil
	_, err = steps.Do(ctx, run, "apply", apply)
	return err
}

// A fault at every point in turn: what was done is undone in reverse, what was not
// done is not, and the owned thing is closed last, however it ends.
func TestFaultAtEveryPoint(t *testing.T) {
	var points []string
	record := func(p string) error { points = append(points, p); return nil }
	var clean tape
	if err := transaction(t.Context(), &steps.Run{Hook: record}, &clean); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tape{"do stage", "do exchange", "do apply", "close"}, clean); diff != "" {
		t.Fatalf("without a fault (-want +got):\n%s", diff)
	}
	undoStage, undoExchange := "undo stage of stage's value", "undo exchange of exchange's value"
	want := map[string]tape{
		"before stage":    {"close"},
		"after stage":     {"do stage", undoStage, "close"},
		"before exchange": {"do stage", undoStage, "close"},
		"after exchange":  {"do stage", "do exchange", undoExchange, undoStage, "close"},
		"before apply":    {"do stage", "do exchange", undoExchange, undoStage, "close"},
		"after apply":     {"do stage", "do exchange", "do apply", undoExchange, "re-apply", undoStage, "close"},
	}
	if len(points) != len(want) {
		t.Fatalf("points %q, want %d", points, len(want))
	}
	for _, point := range points {
		fault := errors.New("fault")
		var got tape
		err := transaction(t.Context(), &steps.Run{Hook: func(p string) error {
			if p == point {
				return fault
			}
			return nil
		}}, &got)
		if !errors.Is(err, fault) {
			t.Errorf("%s: error %v", point, err)
		}
		if diff := cmp.Diff(want[point], got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", point, diff)
		}
	}
}

func TestFailedStepIsNotUndone(t *testing.T) {
	var got tape
	run := &steps.Run{}
	boom := errors.New("boom")
	if _, err := steps.Do(t.Context(), run, "one", got.step("one", nil)); err != nil {
		t.Fatal(err)
	}
	run.OnUndo("two", func(context.Context) error { got = append(got, "later of two"); return nil })
	v, err := steps.Do(t.Context(), run, "two", got.step("two", boom))
	if !errors.Is(err, boom) || v != "" {
		t.Fatalf("got %q, %v", v, err)
	}
	if err := run.Undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := run.Undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := tape{"do one", "do two", "later of two", "undo one of one's value"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if run.Failed() != "two" || !slices.Equal(run.Steps(), []string{"one", "two"}) {
		t.Errorf("failed %q, steps %q", run.Failed(), run.Steps())
	}
	if _, err := steps.Do(t.Context(), run, "three", got.step("three", nil)); err == nil {
		t.Error("a step began after the undo")
	}
}

// Every inverse is attempted, each failure is found with its step.
func TestUndoFailures(t *testing.T) {
	run := &steps.Run{Hook: func(p string) error {
		if p == "before undo b" {
			return errors.New("fault at " + p)
		}
		return nil
	}}
	var undone []string
	for _, name := range []string{"a", "b", "c", "d"} {
		_, err := steps.Do(t.Context(), run, name, steps.Step[int]{
			Do: func(context.Context) (int, error) { return 0, nil },
			Undo: func(context.Context, int) error {
				undone = append(undone, name)
				if name == "c" {
					return io.ErrUnexpectedEOF
				}
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	err := run.Undo(t.Context())
	if !slices.Equal(undone, []string{"d", "c", "a"}) {
		t.Errorf("undone %q", undone)
	}
	var ue *steps.UndoError
	if !errors.As(err, &ue) || ue.Step != "c" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v", err)
	}
	if want := "undo c: unexpected EOF\nundo b: fault at before undo b"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

// A cancelled transaction begins no step, and its inverses run in a context that
// lives, has the values of the first one, and ends.
func TestCancelled(t *testing.T) {
	type key struct{}
	cause := errors.New("told to stop")
	ctx, cancel := context.WithCancelCause(context.WithValue(t.Context(), key{}, "v"))
	run := &steps.Run{UndoTimeout: time.Minute}
	ran := false
	_, err := steps.Do(ctx, run, "one", steps.Step[int]{
		Do: func(context.Context) (int, error) { cancel(cause); return 1, nil },
		Undo: func(ctx context.Context, _ int) error {
			ran = true
			if ctx.Err() != nil || ctx.Value(key{}) != "v" {
				t.Errorf("context of the inverse: %v, value %v", ctx.Err(), ctx.Value(key{}))
			}
			if d, ok := ctx.Deadline(); !ok || time.Until(d) > time.Minute {
				t.Errorf("deadline of the inverse: %v %v", d, ok)
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got tape
	if _, err := steps.Do(ctx, run, "two", got.step("two", nil)); !errors.Is(err, cause) {
		t.Errorf("error %v", err)
	}
	if err := run.Undo(ctx); err != nil || !ran || len(got) > 0 {
		t.Errorf("error %v, ran %v, tape %q", err, ran, got)
	}
}

func TestCloseInReverse(t *testing.T) {
	run := &steps.Run{}
	var order []int
	for i := range 3 {
		run.Own(closer(func() error { order = append(order, i); return fmt.Errorf("close %d", i) }))
	}
	err := run.Close()
	if !slices.Equal(order, []int{2, 1, 0}) || err == nil || err.Error() != "close 2\nclose 1\nclose 0" {
		t.Errorf("order %v, error %v", order, err)
	}
	if err := run.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}
