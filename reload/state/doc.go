// Package state keeps what extexec remembers of a unit between two of its runs.
// It takes and gives plain values and text, so that the file format does not follow
// the types of the other packages.
//
// # Files
//
// A unit, or an instance that was given a name, has two places, both in the host
// view:
//
//	/run/extexec/units/NAME/        the record: gone with the boot
//	    lock                        flock; has the pid of the one who holds it
//	    state.json                  the Record: what is live
//	    state.json.next             the Record that a reload is about to commit
//	/var/lib/extexec/units/NAME/    the memory: stays
//	    memory.json                 refused and held versions
//	    history.jsonl               one Generation a line, oldest first
//
// With --state-dir D they are D/record/NAME and D/memory/NAME.
//
// The record is readable for everyone (0755, 0644), so that status and list need no
// privileges. The lock is 0600: whoever can open a file can flock it, and nobody
// but root may keep a reload waiting. The memory is 0700, because the reason of a
// refusal can quote what a check printed.
//
// # Contract
//
// Every file is written to a temporary name in the same directory, synced, and
// renamed; the directory is synced after that (of a record as far as that can be
// done: it ends with the service in a power cut). A process that is killed anywhere
// leaves the old file or the new one. [Lock.Begin] writes the whole intended record
// beside the current one, so that [Lock.Commit] is a rename alone and cannot fail
// for lack of space.
//
// A file with a newer [Schema] is a [*SchemaError], and is not touched. A file that
// cannot be understood is a [*CorruptError] that says what to do.
//
// The record is needed, so an error about it is an error. The memory is not: where
// it cannot be written (a read-only /var, none in the initrd, a full disk) the
// writing methods return a [*Warning], and the caller goes on.
//
// # Threads
//
// Functions that look up a path do so on the calling goroutine. [Unit.Lock] opens
// both directories; every method of the Lock that it returns works on these, so it
// may be called in any mount namespace. A Lock belongs to one goroutine at a time.
//
// # Not for
//
// Anything that must be kept secret, and anything per process: a record is per
// name.
package state
