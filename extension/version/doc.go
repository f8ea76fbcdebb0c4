// Package version compares version strings as UAPI.10 says and as systemd does
// it, so that extexec and systemd agree on which of two versions is newer.
//
// [Compare] is a pure function. It is not a total order on every pair of
// strings: characters that are no part of a version (such as "_" and "+") only
// separate, so distinct strings can compare equal, and strings that mix them
// with other separators need not be transitive. It is meant for versions as
// they stand in file names, not for sorting arbitrary text.
package version
