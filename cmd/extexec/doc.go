// Command extexec executes extension images for one service: it lays sysexts and
// confexts over the service's own view of /usr, /opt and /etc, and replaces them
// while the service runs.
//
// Each verb has a file. It reads flags, calls one function of another package, and
// writes words: tables for people, JSON with --json. What went wrong becomes an exit
// code in exit.go, and nowhere else.
package main
