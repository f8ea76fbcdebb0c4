// Package foreign tests reloads of processes in containers that others have made: here libcontainer, the
// library beneath runc. It needs cgo and a C compiler for libcontainer's first stage, which is why it stands
// apart; without cgo it has no tests.
package foreign
