// Package reload is the transaction: from what a service asks for to what it
// sees. [Reload] exchanges the extensions of a running service, [Rollback] for those of
// an earlier generation, [Repair] for the same ones where they do not show; [Plan] says
// what a reload would do. [Run] starts a command with them. They read as
// docs/architecture.md lists their steps; each step
// has its inverse beside it (internal/steps).
//
// # Contract
//
// Until the step "exchange" nothing changes that the service can see. Whatever fails
// afterwards is undone: the old trees come back, and the service is told again.
// A [*Failure] says how a reload left things; a failed inverse is in it too.
// Everything slow happens before the target namespace is entered for the
// exchange. The lock of the unit is held throughout, and the record is written
// before the exchange in a form that makes the commit one rename.
//
// # Threads
//
// Reload may be called from any goroutine. What concerns the host (settings,
// records, extensions) runs on one thread in the host view, what concerns the
// service on a thread in its namespace, both of which end with the call. Run
// changes the calling thread and replaces the process: it must be called on the
// main goroutine, locked to the thread that the process started on.
//
// # Not for
//
// Asking the service manager: whoever wants that hands in a [service.MainPIDer].
package reload
