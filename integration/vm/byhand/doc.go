// Package byhand is the main job without systemd, through the built program: run,
// reload under readers, status, rollback. The tests run on this machine's kernel, and
// in the machines of package vm on others; there the programs are in /payload.
package byhand
