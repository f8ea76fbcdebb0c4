// Package arch holds the rules of the house as tests: which package may import
// which, who may make mount and namespace calls, who speaks D-Bus, and what the
// source has to look like. docs/architecture.md has the same rules in words.
//
// A package that is not in the table of arch_test.go fails the test: whoever adds
// one says there what it may import.
//
// It has no code of its own, and nothing imports it.
package arch
