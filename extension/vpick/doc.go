// Package vpick chooses one version out of a versioned directory, "NAME.v/", as
// systemd.v(7) describes it and as systemd does it.
//
// [Pick] mounts nothing, reads no content and never opens a file for reading:
// candidates are looked at through O_PATH descriptors, so a fifo or a device in
// a directory holds nobody up. All look-ups are made on the calling goroutine,
// relative to the mount namespace of its thread.
//
// It differs from systemd in two things. An entry that leads nowhere or cannot
// be opened is passed over with a warning, where systemd fails the whole pick.
// And names that tools give to unfinished files are passed over: ".#*",
// ".sysupdate.*", "*.tmp" and "*~".
//
// It does not judge what it picks: whether an extension is good, trusted or held
// is for the caller, who can pass a candidate over with [Options.PassOver].
package vpick
