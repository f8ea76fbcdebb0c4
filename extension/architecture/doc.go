// Package architecture knows the words that systemd uses for processor
// architectures in file names of versioned directories and in ARCHITECTURE= of
// a release file. They are neither Go's nor the kernel's.
package architecture
