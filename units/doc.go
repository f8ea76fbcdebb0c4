// Package units is unit text: the units that are shipped (the files beside this one),
// the drop-ins that extexec adopt, extexec wrap and extexec watch write for a unit,
// and how they are told from others.
//
// # Contract
//
// It is pure: a unit as it is without a drop-in of ours, and facts about the host, go
// in; text comes out. It reads and writes no file, and asks nobody. A drop-in is
// proved before it is given: the unit is parsed with it, and must come to what was
// meant. What a unit cannot have is a *RefusedError that names each reason with file
// and line.
//
// It is not for: judging units (units/lint), installing drop-ins and making systemd
// read them (the verbs, units/manager).
package units
