// Package vdir changes versioned directories, "NAME.v/": it counts in the names of
// their entries how often a version may still be tried, and was, as systemd's
// Automatic Boot Assessment does ("web_2+3.raw" is "web_2+2-1.raw" after the first
// try, and "web_2.raw" once it was good).
//
// And it puts versions into them: a [Part] is copied aside, on the same file system and
// below a name that nobody picks, and renamed into place. It holds that open until it is
// closed or taken back.
//
// An entry is renamed within its directory and never onto another one; the
// directory is synced. Many programs may count at once: each finds the entry under
// the name that it has then, so that no try is lost. A change that is made at the
// same time by something else, and cannot be told from these, is made too.
//
// All look-ups are made on the calling goroutine, relative to the mount namespace
// of its thread. What a version is, and whether it is any good, is for the caller.
package vdir
