// Package buildinfo says which build this is. A release sets the version with
//
//	go build -ldflags "-X github.com/extexec/extexec/internal/buildinfo.version=1.2.3"
//
// and every other build has what the Go command recorded in the binary.
//
// It is not for deciding what a program does: a feature is looked for, not derived
// from a version.
package buildinfo
