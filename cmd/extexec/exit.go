package main

import (
	"errors"
	"io/fs"
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

// message is what is said of an error, "" where there is nothing to say.
func message(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	// The system's own errors have their path raw: it must not make another line. Other
	// lines may be: what a check has written.
	var call *fs.PathError
	if errors.As(err, &call) && call.Path != "" {
		text = strings.ReplaceAll(text, call.Path, visible(call.Path))
	}
	return text
}
