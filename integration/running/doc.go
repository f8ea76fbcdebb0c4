// Package running takes systemd itself for the oracle: a service that it has
// started says what a command in its place must be (package service), what a
// user is (service/credential), and what the manager answers (units/manager).
// It has tests alone.
package running
