package main

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/reload/state"
)

// The exit codes of the program. Those of run and exec are systemd's own, from
// systemd.exec(5), "Process Exit Codes".
const (
	exitOK         = 0
	exitFailed     = 1 // nothing changed
	exitUsage      = 2
	exitCheck      = 3 // nothing changed
	exitTakenBack  = 4 // the old state is live
	exitUndoFailed = 5
	exitChanges    = 6  // plan --exit-code
	exitLocked     = 75 // EX_TEMPFAIL of sysexits.h

	exitWorkingDirectory = 200 // EXIT_CHDIR
	exitExec             = 203 // EXIT_EXEC
	exitUser             = 217 // EXIT_USER
	exitNamespace        = 226 // EXIT_NAMESPACE
)

// An exitError ends the program with a certain code.
type exitError struct {
	code int
	err  error // what is said; nil for nothing
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// exitCode is the whole table from errors to exit codes.
func exitCode(err error) int {
	var (
		coded  *exitError
		undo   *steps.UndoError
		locked *state.LockedError
		name   *state.NameError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &undo): // before all others: it says that something is left
		return exitUndoFailed
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &locked):
		return exitLocked
	case errors.As(err, &name):
		return exitUsage
	}
	return exitFailed
}

// message is what is said of an error, "" where there is nothing to say. given are the
// arguments of the call.
func message(err error, given []string) string {
	if err == nil {
		return ""
	}
	return onOneLine(err.Error(), slices.Concat(paths(err), given))
}

// onOneLine has no path, and nothing else that was given, make another line, or worse.
// Other lines may be: what a check has written.
func onOneLine(text string, raw []string) string {
	for _, r := range raw {
		// A path may have been cleaned, and of a flag its value alone be said again.
		pieces := strings.FieldsFunc(r, func(c rune) bool { return c == '/' || c == '=' })
		for _, piece := range append([]string{r}, pieces...) {
			if v := visible(piece); v != piece && len(piece) > 1 {
				text = strings.ReplaceAll(text, piece, v)
			}
		}
	}
	return text
}

// paths are those that the system's own errors have, which are raw.
func paths(err error) (all []string) {
	switch e := err.(type) { //nolint:errorlint // all of the tree is looked at
	case *fs.PathError:
		all = append(all, e.Path)
	case *os.LinkError:
		all = append(all, e.Old, e.New)
	}
	switch e := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			all = append(all, paths(inner)...)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			all = append(all, paths(inner)...)
		}
	}
	return all
}
