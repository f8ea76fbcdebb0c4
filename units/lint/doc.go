// Package lint says what would go wrong with a unit at a start or a reload, and
// which way it can have its extensions: the wrapper (extexec run in ExecStart=) or
// adopt (systemd applies them, extexec exchanges them).
//
// # Contract
//
// It is pure: a unit, and facts about the host that the caller has gathered, go in;
// findings come out, in the order of the unit's text. A fact that is not known is
// left at its zero value, and what depends on it is not judged. Values are not
// changed; any goroutine may call it.
//
// It is not for: changing units (package units), looking at the host, asking systemd.
package lint
