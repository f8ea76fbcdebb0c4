// Package soak does to the built program what years of use would: services by hand, in a private mount namespace,
// get versions installed and removed, good and bad, are reloaded, rolled back and killed at random moments, many of
// them at once, while they look up their files in a loop. A model says after each step what must be live.
//
// The order of the steps follows from a seed, which is printed; the moments of the kills do not. "make test" takes
// 15 seconds of it, "make soak" ten minutes:
//
//	make soak SOAKTIME=1h SEED=7
//
// It needs root, and no rig: what systemd has to do with a reload is tested one folder up.
package soak
