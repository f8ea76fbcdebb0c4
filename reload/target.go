package reload

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/reload/recorded"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/service"
)

// subject is who a reload is about, as far as that can be told without a lock.
type subject struct {
	name    string
	process *service.Process // $MAINPID's; nil by hand
	dirs    state.Dirs
}

// Close lets go of the process.
func (s *subject) Close() error {
	if s.process == nil {
		return nil
	}
	return s.process.Close()
}

// identify finds the name: the argument, or by the mount namespace of $MAINPID.
// A main process that no record knows is systemd's own work: its unit is the
// name (adopt's first reload).
func identify(dirs state.Dirs, name string) (*subject, error) {
	process, err := service.FromEnvironment()
	if err != nil {
		return nil, fmt.Errorf("find the service by $MAINPID: %w", err)
	}
	s := &subject{process: process, dirs: dirs}
	switch {
	case name != "":
		s.name, err = recordedName(dirs, name)
	case process == nil:
		err = ErrNoName
	default:
		s.name, err = nameOf(dirs, process)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// ErrNoName says that neither a name nor $MAINPID was given.
var ErrNoName = errors.New("name the unit or instance to reload: $MAINPID is not set, so this is no ExecReload= (extexec list shows the names)")

// recordedName completes a name as systemctl does: ".service" may be left out.
func recordedName(dirs state.Dirs, name string) (string, error) {
	for _, n := range []string{name, name + ".service"} {
		u, err := dirs.Unit(n)
		if err != nil {
			return "", err
		}
		if _, err := u.Load(); !errors.Is(err, fs.ErrNotExist) {
			return n, nil // a record that cannot be read is reported under the lock
		}
	}
	if !strings.Contains(name, ".") {
		name += ".service"
	}
	return name, nil
}

func nameOf(dirs state.Dirs, p *service.Process) (string, error) {
	id, err := p.MountNS()
	if err != nil {
		return "", fmt.Errorf("look at process %d: %w", p.PID(), err)
	}
	names, err := dirs.FindMountNS(id)
	if err != nil {
		return "", err
	}
	if names, err = thatMean(dirs, names, p); err != nil {
		return "", err
	}
	unit, err := p.Unit()
	if err != nil {
		return "", fmt.Errorf("look at process %d: %w", p.PID(), err)
	}
	switch {
	case len(names) == 1:
		return names[0], nil
	case slices.Contains(names, unit):
		return unit, nil
	case len(names) > 1:
		return "", fmt.Errorf("find the record of process %d: several names share its mount namespace (%s): name one", p.PID(), strings.Join(names, " "))
	case unit == "":
		return "", fmt.Errorf("find the record of process %d: it has none, and belongs to no unit: was it started with extexec run?", p.PID())
	}
	return unit, nil
}

// thatMean are the names whose records mean the namespace of a process.
func thatMean(dirs state.Dirs, names []string, p *service.Process) (some []string, err error) {
	for _, name := range names {
		u, err := dirs.Unit(name)
		if err != nil {
			return nil, err
		}
		r, err := u.Load()
		if noRecord(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		is, err := recorded.Means(r, p)
		if err != nil {
			return nil, err
		}
		if is {
			some = append(some, name)
		}
	}
	return some, nil
}

// target is the running service, held so that it cannot be mistaken for another.
type target struct {
	process *service.Process // one that lives in the namespace
	ns      *os.File
	id      uint64
	live    *nsmount.Namespace // once it was entered
	// fresh says that the record does not mean this namespace: nothing of ours
	// can be expected in it.
	fresh bool
}

// Close lets go of the process and ends the thread in its namespace.
func (t *target) Close() error {
	var errs []error
	if t.live != nil {
		errs = append(errs, t.live.Close())
	}
	return errors.Join(append(errs, t.ns.Close(), t.process.Close())...)
}

// find opens the service: the process of $MAINPID, else one in the namespace that
// the record means, else the one that the manager names.
func find(ctx context.Context, s *subject, r *state.Record, manager service.MainPIDer) (*target, error) {
	p, err := findProcess(ctx, s, r, manager)
	if err != nil {
		return nil, err
	}
	t := &target{process: p}
	if t.ns, err = p.Namespace(service.Mount); err != nil {
		return nil, errors.Join(fmt.Errorf("open the mount namespace of process %d: %w", p.PID(), err), p.Close())
	}
	if err := t.check(s, r); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// enter starts a thread in the service's mount namespace.
func (t *target) enter() (err error) {
	if t.live != nil {
		return nil
	}
	if t.live, err = nsmount.Enter(t.ns); err != nil {
		return fmt.Errorf("enter the mount namespace of process %d: %w", t.process.PID(), err)
	}
	return nil
}

func (t *target) check(s *subject, r *state.Record) error {
	var err error
	if t.id, err = service.MountNamespaceID(t.ns); err != nil {
		return err
	}
	host, err := service.IsHostNamespace(t.id)
	if err != nil {
		return fmt.Errorf("compare with the host's mount namespace: %w", err)
	}
	if host {
		return fmt.Errorf("process %d has no mount namespace of its own: start it with extexec run, or let its unit use ExtensionDirectories= or ExtensionImages=", t.process.PID())
	}
	if !t.process.Alive() {
		return fmt.Errorf("process %d: %w", t.process.PID(), service.ErrGone)
	}
	t.fresh = r.MountNS != t.id
	if !t.fresh {
		is, err := recorded.Means(r, t.process)
		if err != nil {
			return err
		}
		t.fresh = !is
	}
	if s.process == nil {
		return nil
	}
	return t.belongs(s.name, r.Unit)
}

// belongs refuses the process of $MAINPID where it has nothing to do with the name:
// the variable may be another service's, or that of a process that is gone.
func (t *target) belongs(name, unit string) error {
	of, err := t.process.Unit()
	switch {
	case err == nil && strings.HasSuffix(name, ".service") && of != "" && of != name:
		return fmt.Errorf("process %d belongs to %s, not to %s: is $MAINPID out of date?", t.process.PID(), of, name)
	case !t.fresh || of != "" && (of == name || of == unit):
		return nil
	case err != nil:
		return fmt.Errorf("look at process %d: %w", t.process.PID(), err)
	}
	return fmt.Errorf("process %d is not in the mount namespace of %q, nor in its unit: is $MAINPID out of date? Without it, the record says which process it is", t.process.PID(), name)
}

func findProcess(ctx context.Context, s *subject, r *state.Record, manager service.MainPIDer) (*service.Process, error) {
	if s.process != nil {
		// Opened twice, so that each has its owner. While the first one lives, the
		// number is its own.
		p, err := service.Open(s.process.PID())
		if err == nil && !s.process.Alive() {
			err = errors.Join(fmt.Errorf("process %d: %w", p.PID(), service.ErrGone), p.Close())
		}
		return p, err
	}
	if p, err := recorded.Process(r); p != nil || err != nil {
		return p, err
	}
	var unnamed error
	if manager != nil && strings.HasSuffix(s.name, ".service") {
		p, err := service.Main(ctx, s.name, manager)
		if err == nil {
			return p, nil
		}
		unnamed = err // it may have been started by hand
	}
	switch {
	case r.MountNS == 0 && unnamed != nil:
		return nil, unnamed
	case r.MountNS == 0:
		return nil, fmt.Errorf("there is no record of %q and no running unit of that name: start it first (%s shows the names)", s.name, s.dirs.Hint("list"))
	}
	// The main process may be another by now: a daemon that forks, nginx after
	// USR2. Whoever lives in the namespace shows it.
	if p, err := recorded.Any(r); p != nil || err != nil {
		return p, err
	}
	if unnamed != nil {
		return nil, fmt.Errorf("%q is not running: no process is left in its mount namespace (%w): start it first", s.name, unnamed)
	}
	return nil, fmt.Errorf("%q is not running: no process is left in its mount namespace: start it first", s.name)
}
