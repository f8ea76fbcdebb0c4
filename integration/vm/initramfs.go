package vm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/extexec/extexec/integration/vm/wire"
)

// An archive writes a cpio archive in the "newc" format, which the kernel unpacks as
// its first root (Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	w    *bufio.Writer
	at   int64 // bytes written
	ino  int
	dirs map[string]bool
	err  error
}

func (a *archive) write(b []byte) {
	if a.err == nil {
		var n int
		n, a.err = a.w.Write(b)
		a.at += int64(n)
	}
}

func (a *archive) pad() { a.write(make([]byte, (4-a.at%4)%4)) }

// entry writes a file's head; size bytes and pad have to follow.
func (a *archive) entry(name string, mode uint32, size int64) {
	a.ino++
	// Magic, inode, mode, uid, gid, links, mtime, size, device and rdev in two
	// parts each, length of the name with its zero, check sum.
	a.write(fmt.Appendf(nil, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.ino, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0, name))
	a.pad()
}

// parents makes the directories above a file.
func (a *archive) parents(name string) {
	dir := path.Dir(name)
	if dir == "." || dir == "/" || a.dirs[dir] {
		return
	}
	a.parents(dir)
	a.dirs[dir] = true
	a.entry(strings.TrimPrefix(dir, "/"), 0o040755, 0)
}

func (a *archive) bytes(name string, mode uint32, data []byte) {
	a.parents(name)
	a.entry(strings.TrimPrefix(name, "/"), 0o100000|mode, int64(len(data)))
	a.write(data)
	a.pad()
}

// copy takes a file of this machine in.
func (a *archive) copy(name, from string) {
	data, err := os.ReadFile(from)
	if err != nil && a.err == nil {
		a.err = err
	}
	a.bytes(name, 0o755, data)
}

// writeInitramfs writes all that the guest starts with.
func writeInitramfs(w io.Writer, tree kernelTree, c Config) error {
	base := modules
	if c.Systemd {
		base = systemdModules
	}
	order, paths, err := tree.order(slices.Concat(base, c.Modules))
	if err != nil {
		return err
	}
	plan, err := json.Marshal(wire.Plan{Modules: order, Tasks: c.Tasks, Systemd: c.Systemd})
	if err != nil {
		return err
	}
	a := &archive{w: bufio.NewWriter(w), dirs: map[string]bool{}}
	a.copy("/init", c.Guest)
	a.bytes(wire.PlanFile, 0o644, plan)
	for file, from := range paths {
		a.copy(wire.ModulesDir+"/"+file, from)
	}
	a.parents(wire.PayloadDir + "/file")
	for name, from := range c.Files {
		a.copy(wire.PayloadDir+"/"+name, from)
	}
	for _, dir := range []string{"/proc", "/sys", "/dev", wire.NewRoot} {
		a.parents(dir + "/file")
	}
	// Without a console the first process has no standard output.
	a.ino++
	a.write(fmt.Appendf(nil, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.ino, 0o020600, 0, 0, 1, 0, 0, 0, 0, 5, 1, len("dev/console")+1, 0, "dev/console"))
	a.pad()
	a.entry("TRAILER!!!", 0, 0)
	if a.err != nil {
		return a.err
	}
	return a.w.Flush()
}
