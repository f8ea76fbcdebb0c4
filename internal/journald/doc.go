// Package journald writes log records to standard error the way the journal reads
// them there: a line begins with its priority, as in sd-daemon(3). This needs no
// socket, so it works in every sandbox. Where standard error is not the journal, the
// lines are made for a reader at a terminal.
//
// A record with the attribute MESSAGE_ID is sent to the journal's socket, if the
// handler was given one: as an entry of which each attribute in capitals is a field. It
// is a line where that fails. Lines never have these attributes.
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
// A process that is under a service's seccomp filter must not be given the socket: the
// filter may kill it there. Entries that do not fit one datagram.
package journald
