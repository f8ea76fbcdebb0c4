// Package recorded finds the processes that a record means, while they live.
//
// A record has a process and the id of a mount namespace. The process may have handed
// over to another: a daemon that forks, nginx after USR2. And ids are given again: by
// every boot, which a record may outlive (--state-dir), and before Linux 6.11 as soon as
// a namespace is gone. So who lives in a namespace with that id is taken for the service
// only with some proof; see [Means].
//
// All of it looks below /proc on the calling goroutine, which must be in the host view.
// It changes nothing and needs no lock.
//
// What it is not for: which unit a process belongs to (package service), and what the
// manager says of it.
package recorded

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/hierarchy"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/service"
)

// Boot names this boot of the machine, random(4); "" where that cannot be read.
func Boot() string { return boot() }

// boot reads it once: a transaction asks for it four times. It is opened without
// os.Open, which would have the runtime's poller watch it, as it does with all below
// /proc/sys, and wake a thread for that.
var boot = sync.OnceValue(func() string {
	fd, err := unix.Open("/proc/sys/kernel/random/boot_id", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	f := os.NewFile(uintptr(fd), "boot_id")
	defer f.Close()
	var id [64]byte
	n, _ := f.Read(id[:]) // 0 where it fails
	return strings.TrimSpace(string(id[:n]))
})

// Outlived says that a record is of an earlier boot: what it means is gone.
func Outlived(r *state.Record) bool {
	boot := Boot()
	return boot != "" && r.Boot != "" && r.Boot != boot
}

// Means tells whether the mount namespace that a process lives in, whose id the record
// has, is the one that the record means. An id that the kernel gives but once is proof
// in the boot that the record is of. Else the recorded process is, and an overlay of the
// name.
func Means(r *state.Record, p *service.Process) (bool, error) {
	if Outlived(r) {
		return false, nil
	}
	if r.Boot != "" && r.Boot == Boot() && r.MountNS&service.InodeID == 0 {
		return true, nil
	}
	if p.PID() == r.PID && p.StartTime() == r.StartTime {
		return true, nil
	}
	table, err := p.MountTable()
	if err != nil {
		return false, unlessGone(err)
	}
	return slices.ContainsFunc(table.Mounts, func(m nsmount.Mount) bool {
		owner, source := hierarchy.OwnerOf(&m)
		return owner == hierarchy.Ours && source.Names(r.Name)
	}), nil
}

// Processes lists the processes in the namespace that the record means, by process id.
func Processes(r *state.Record) ([]int, error) {
	pids, p, err := living(r)
	if p == nil {
		return nil, err
	}
	return pids, p.Close()
}

// Any opens a process in the namespace that the record means; nil where there is none.
// The caller closes it.
func Any(r *state.Record) (*service.Process, error) {
	_, p, err := living(r)
	return p, err
}

// Process opens the recorded process; nil where it is no longer there, or lives in
// another mount namespace by now. The caller closes it.
func Process(r *state.Record) (*service.Process, error) {
	if r.PID == 0 || Outlived(r) {
		return nil, nil
	}
	p, err := openIn(r.PID, r.MountNS)
	if p != nil && p.StartTime() != r.StartTime {
		return nil, p.Close()
	}
	return p, err
}

// living lists who is in the namespace, and opens one that shows that it is the one.
func living(r *state.Record) ([]int, *service.Process, error) {
	pids, err := service.InMountNamespace(r.MountNS)
	if err != nil {
		return nil, nil, err
	}
	for _, pid := range pids {
		p, err := openIn(pid, r.MountNS)
		if err != nil {
			return nil, nil, err
		}
		if p == nil {
			continue
		}
		is, err := Means(r, p)
		if is {
			return pids, p, nil
		}
		if err := errors.Join(err, p.Close()); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, nil
}

// openIn opens a process if it is in the mount namespace; else both results are nil.
func openIn(pid int, ns uint64) (*service.Process, error) {
	p, err := service.Open(pid)
	if err != nil {
		return nil, unlessGone(err)
	}
	id, err := p.MountNS()
	if err == nil && id == ns {
		return p, nil
	}
	return nil, errors.Join(unlessGone(err), p.Close())
}

// unlessGone is an error that is more than the end of a process, or that it is not ours
// to look at: that we have no descriptor left, say, is no word on the process.
func unlessGone(err error) error {
	if errors.Is(err, service.ErrGone) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
