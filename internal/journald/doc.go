// Package journald writes log records to standard error the way the journal reads
// them there: a line begins with its priority, as in sd-daemon(3). This needs no
// socket, so it works in every sandbox. Where standard error is not the journal, the
// lines are made for a reader at a terminal.
//
// # Contract
//
// A record is one write. Every line of a record has the priority in front, and
// control characters are escaped, so that no text that comes from elsewhere can
// forge a line or a priority, or drive a terminal. A handler may be used by many
// goroutines.
//
// # Not for
//
// Structured fields and message ids in the journal's native protocol: they need
// the journal's socket.
package journald
