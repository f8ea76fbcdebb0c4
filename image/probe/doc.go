// Package probe says what a blob is: a file system that extexec mounts, or something else that it can at least
// name in a refusal.
//
// It reads magic numbers and a few sizes at fixed places, 128 KiB at the most, and believes nothing beyond that:
// whether the file system is sound is for the kernel to find out. A blob that several readers would take for
// different things is refused.
//
// The package is pure. It does not read partition tables (package gpt does), and does not tell what is inside a file
// system.
package probe
