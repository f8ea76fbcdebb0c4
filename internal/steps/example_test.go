package steps_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/extexec/extexec/internal/steps"
)

func stage() steps.Step[string] {
	return steps.Step[string]{
		Do:   func(context.Context) (string, error) { return "new tree", nil },
		Undo: nil, // what is staged, nobody can see
	}
}

func exchange(tree string) steps.Step[string] {
	return steps.Step[string]{
		Do: func(context.Context) (string, error) {
			fmt.Println("attach", tree)
			return "old tree", nil
		},
		Undo: func(_ context.Context, old string) error {
			fmt.Println("attach", old, "again")
			return nil
		},
	}
}

func verify() steps.Step[struct{}] {
	return steps.Step[struct{}]{
		Do: func(context.Context) (struct{}, error) { return struct{}{}, errors.New("verify: exit 1") },
	}
}

func transact(ctx context.Context) (err error) {
	run := &steps.Run{}
	defer func() { err = errors.Join(err, run.Close()) }()
	defer func() {
		if err != nil {
			err = errors.Join(err, run.Undo(ctx))
		}
	}()
	tree, err := steps.Do(ctx, run, "stage", stage())
	if err != nil {
		return err
	}
	if _, err := steps.Do(ctx, run, "exchange", exchange(tree)); err != nil {
		return err
	}
	_, err = steps.Do(ctx, run, "verify", verify())
	return err
}

func Example() {
	fmt.Println(transact(context.Background()))
	// Output:
	// attach new tree
	// attach old tree again
	// verify: exit 1
}
