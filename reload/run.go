package reload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/hierarchy"
	"github.com/extexec/extexec/reload/recorded"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/service"
	"github.com/extexec/extexec/service/credential"
	"github.com/extexec/extexec/unitfile/settings"
)

// RunOptions say what to start, and with which extensions.
type RunOptions struct {
	Unit  string // a unit's name or, with a slash, its file; "" takes the unit that started us, or none
	Name  string // of the instance; "" is the unit's
	Dirs  state.Dirs
	Flags Flags // absolute paths

	Argv   []string
	Argv0  string // what the command is told to be called; "" is Argv[0]
	Limits nsmount.Limits
	// Probe fills in Limits. A seccomp filter may kill in it: not before a look at the sandbox.
	Probe func() nsmount.Limits `json:"-"`
	Warn  func(string)          `json:"-"`
	// FellBack is told of earlier extensions instead of Warn, where it is set.
	FellBack func(FellBack)           `json:"-"`
	Hook     func(point string) error `json:"-"`
}

// Run lays the extensions over a mount namespace of the calling process's own and
// executes the command in place: same process, same descriptors, limits and
// signals. It returns only when it fails, with an [*ExitError] where systemd has
// a code for it.
//
// Must be called on the main goroutine, locked to the first thread.
func Run(ctx context.Context, o RunOptions) (err error) {
	run := &steps.Run{Hook: o.Hook}
	s := &start{RunOptions: o, run: run, systemd: startedBySystemd()}
	defer func() {
		if err != nil {
			err = errors.Join(err, run.Undo(ctx))
		}
		err = errors.Join(err, run.Close())
	}()
	return s.start(ctx)
}

// start is one start on its way.
type start struct {
	RunOptions
	run     *steps.Run
	systemd bool
	own     string // unit that we were started for
	name    string
	host    *nsmount.Namespace
	ns      *os.File // the namespace that we were started in
	live    *nsmount.Namespace
	lock    *state.Lock
	tried   []state.Extension
	shown   bool // the command is about to see the extensions
}

// start reads like docs/architecture.md, "One start".
func (s *start) start(ctx context.Context) error {
	run := s.run
	if os.Geteuid() != 0 {
		return &ExitError{ExitNamespace, errors.New("extexec run needs root to mount: in a unit with User= or DynamicUser=, write ExecStart=!/usr/bin/extexec run ...; by hand use sudo")}
	}
	if err := s.identify(); err != nil {
		return err
	}
	err := s.beforeFilter()
	if err != nil {
		return &ExitError{ExitNamespace, err}
	}
	if s.Probe != nil {
		s.Limits = s.Probe()
	}
	if s.host, err = hostView(s.systemd); err != nil {
		if forbidden := s.forbiddenHere(); forbidden != nil {
			err = forbidden
		}
		return &ExitError{ExitNamespace, err}
	}
	run.Own(s.host)
	var p prepared
	aside(func() { p, err = s.prepare(ctx) })
	if err != nil {
		return s.refused(explainFiles(err, p.is), p.is)
	}
	// From here on it is this thread that counts: it gets the namespace, and
	// executes the command.
	if _, err := steps.Do(ctx, run, "attach", s.attach(p.is, p.made)); err != nil {
		return &ExitError{ExitNamespace, explainFiles(err, p.is)}
	}
	if _, err := steps.Do(ctx, run, "record", s.record(p.is, p.made)); err != nil {
		return &ExitError{ExitNamespace, explainFiles(err, p.is)}
	}
	// execve(2) would close the trees too, but one by one, see nsmount.Gather.
	p.made.gather()
	if err := errors.Join(p.made.all.Close(), p.made.view.Close()); err != nil {
		return &ExitError{ExitNamespace, err}
	}
	return s.execute(p.is, p.user)
}

// prepared is what a start has before it changes anything.
type prepared struct {
	is   *situation
	user *identity
	made *made
}

// prepare does all that needs no thread of its own.
func (s *start) prepare(ctx context.Context) (p prepared, err error) {
	run := s.run
	if s.lock, err = steps.Do(ctx, run, "lock", s.takeLock()); err != nil {
		return p, err
	}
	if p.is, err = steps.Do(ctx, run, "read", s.read()); err != nil {
		return p, err
	}
	if p.user, err = steps.Do(ctx, run, "user", s.user(p.is)); err != nil {
		return p, &ExitError{ExitUser, err}
	}
	look, err := steps.Do(ctx, run, "survey", s.survey(p.is))
	if err != nil {
		return p, &ExitError{ExitNamespace, err}
	}
	picked, err := steps.Do(ctx, run, "pick", s.pick(p.is))
	if err != nil {
		return p, &ExitError{ExitNamespace, err}
	}
	s.tried = attemptOf(picked)
	all, err := steps.Do(ctx, run, "open", s.open(p.is, look, picked))
	if err != nil {
		return p, &ExitError{ExitNamespace, err}
	}
	if p.made, err = steps.Do(ctx, run, "stage", s.stage(p.is, look, all)); err != nil {
		return p, &ExitError{ExitNamespace, err}
	}
	if p.made, err = steps.Do(ctx, run, "check", s.check(p.is, p.user, p.made)); err != nil {
		return p, &ExitError{ExitNamespace, err}
	}
	if _, err = steps.Do(ctx, run, "settle", s.settle(p.made)); err != nil {
		return p, &ExitError{ExitNamespace, err}
	}
	if _, err = steps.Do(ctx, run, "count", s.count(p.is, p.made)); err != nil {
		return p, &ExitError{ExitNamespace, err}
	}
	return p, nil
}

// identify settles the unit and the name.
func (s *start) identify() error {
	if s.systemd {
		var err error
		if s.own, err = ownUnit(); err != nil {
			return &ExitError{ExitNamespace, err}
		}
	}
	if s.Unit == "" {
		s.Unit = s.own
	}
	s.name = s.Name
	if s.name == "" {
		s.name = filepath.Base(s.Unit)
	}
	if s.Unit == "" && s.Name == "" {
		return ErrNoRunName
	}
	return state.CheckName(s.name)
}

// ErrNoRunName says that a start has neither a unit nor a name.
var ErrNoRunName = errors.New("give the instance a name (--name NAME) or name its unit (--unit UNIT): extexec reload must be able to find it")

func ownUnit() (string, error) {
	p, err := service.Open(os.Getpid())
	if err != nil {
		return "", err
	}
	defer p.Close()
	return p.Unit()
}

func (s *start) takeLock() steps.Step[*state.Lock] {
	return steps.Step[*state.Lock]{Do: func(ctx context.Context) (*state.Lock, error) {
		l, err := nsmount.Do(ctx, s.host, func() (*state.Lock, error) {
			u, err := s.Dirs.Unit(s.name)
			if err != nil {
				return nil, err
			}
			return u.Lock(ctx, lockWaitStart)
		})
		if err == nil {
			s.run.Own(l)
		}
		return l, err
	}}
}

func (s *start) read() steps.Step[*situation] {
	return steps.Step[*situation]{Do: func(ctx context.Context) (*situation, error) {
		is, err := nsmount.Do(ctx, s.host, s.readHere)
		s.warn(is.warnings()...)
		return is, err
	}}
}

// readHere must run in the host view.
func (s *start) readHere() (is *situation, err error) {
	is = &situation{unit: s.Unit, flags: s.Flags}
	if is.record, err = s.lock.Load(); noRecord(err) {
		is.record, err = &state.Record{}, nil
	}
	if err != nil {
		return is, err
	}
	if err := s.notInUse(is.record); err != nil {
		return is, err
	}
	if is.memory, err = s.lock.Memory(); err != nil {
		return is, err
	}
	if is.settings, err = settingsFor(s.Unit, s.Flags); err != nil {
		return is, &ExitError{ExitNamespace, err}
	}
	// Whoever committed may have been killed before it came to these.
	s.warnOf(overcome(s.lock, is.memory, is.record, false))
	s.warnOf(s.lock.Complete(&is.record.Current, is.settings.KeepGenerations))
	is.hierarchies = is.settings.Hierarchies
	if err := s.forbidden(is.settings); err != nil {
		return is, &ExitError{ExitNamespace, err}
	}
	return is, nil
}

// notInUse refuses a name under which something runs already. When systemd
// starts a unit anew, what is left of the old one may still be ending: a unit has
// one main process, so that is no second use of its name.
func (s *start) notInUse(r *state.Record) error {
	if r.MountNS == 0 || (s.systemd && s.Name == "") {
		return nil
	}
	p, err := recorded.Any(r)
	if p == nil {
		return err
	}
	defer p.Close()
	return fmt.Errorf("the name %q is in use by process %d: give this one another (--name)", s.name, p.PID())
}

// identity is who the command runs as.
type identity struct {
	user   credential.User
	change *credential.Change
}

// home is what WorkingDirectory=~ means: HOME, as systemd 262 has it where the unit
// sets that; else the user's home directory, or root's (acquire_home of systemd's
// exec-invoke.c).
func (i *identity) home() string {
	user := ""
	if i != nil {
		user = i.user.Home
	}
	return cmp.Or(os.Getenv("HOME"), user, "/root")
}

// user looks up who to become, where systemd has left that to us: with
// ExecStart=! it applies the sandbox, but not User=.
func (s *start) user(is *situation) steps.Step[*identity] {
	return steps.Step[*identity]{Do: func(ctx context.Context) (*identity, error) {
		u := is.settings.Service
		if !s.systemd || (u.User == "" && u.Group == "" && len(u.SupplementaryGroups) == 0 && !u.DynamicUser) {
			return nil, nil
		}
		spec := credential.Spec{User: u.User, Group: u.Group, SupplementaryGroups: u.SupplementaryGroups, DynamicUser: u.DynamicUser}
		return nsmount.Do(ctx, s.host, func() (*identity, error) {
			user, err := credential.Resolve(spec, credential.Database{})
			if err != nil {
				return nil, err
			}
			if err := setLogin(u, user.Env()); err != nil {
				return nil, err
			}
			change, err := credential.Prepare(user)
			if err != nil {
				return nil, err
			}
			return &identity{user: user, change: change}, impliedNoNewPrivs(change)
		})
	}}
}

func (s *start) survey(is *situation) steps.Step[*hierarchy.View] {
	return steps.Step[*hierarchy.View]{Do: func(ctx context.Context) (*hierarchy.View, error) {
		if err := s.openLive(ctx); err != nil {
			return nil, err
		}
		v, err := hierarchy.Take(ctx, s.ns, s.live, hierarchy.Options{Hierarchies: is.settings.Hierarchies, Limits: s.Limits})
		if err != nil {
			return nil, err
		}
		s.run.Own(v)
		return v, s.notInside(v)
	}}
}

// notInside refuses a place in which another service's extensions show: they are peeled
// with all overlays of ours, so the command would not see them. Those that systemd has
// applied are in the settings of the unit, where there is one.
func (s *start) notInside(v *hierarchy.View) error {
	for _, one := range v.Surveys {
		for _, o := range one.Overlays {
			whose := fmt.Sprintf("%q", o.Source.Name)
			switch {
			case o.Owner == hierarchy.Ours && !o.Source.Names(s.name):
			case o.Owner == hierarchy.Systemd && s.Unit == "":
				whose = "another unit"
			default:
				continue
			}
			return fmt.Errorf("%s shows the extensions of %s here, and the command would not see them: start it outside of that service, or give it all the extensions that it needs there", one.Path, whose)
		}
	}
	return nil
}

// openLive opens the namespace that the hierarchies are surveyed in.
func (s *start) openLive(ctx context.Context) (err error) {
	if s.live != nil {
		return nil
	}
	if s.ns, err = os.Open("/proc/self/ns/mnt"); err != nil {
		return err
	}
	s.run.Own(s.ns)
	if s.live, err = nsmount.Here(); err != nil {
		return err
	}
	s.run.Own(s.live)
	if s.systemd {
		return nil
	}
	err = notInChroot(ctx, s.ns, s.live)
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w: root without CAP_SYS_ADMIN or CAP_SYS_CHROOT cannot mount: in a container, start that privileged", err)
	}
	return err
}

func (s *start) pick(is *situation) steps.Step[[]*extension.Picked] {
	return steps.Step[[]*extension.Picked]{Do: func(ctx context.Context) ([]*extension.Picked, error) {
		all, err := nsmount.Do(ctx, s.host, func() (picks, error) {
			return pickAll(is.settings, is.memory, pickRules{anyPath: is.flags.AnyPath})
		})
		s.warn(all.warnings...)
		return all.picked, err
	}}
}

func (s *start) open(is *situation, v *hierarchy.View, picked []*extension.Picked) steps.Step[*opened] {
	return steps.Step[*opened]{Do: func(ctx context.Context) (*opened, error) {
		osRelease, err := osOf(v)
		if err != nil {
			return nil, err
		}
		all, err := nsmount.Do(ctx, s.host, func() (*opened, error) { return openAll(ctx, is.settings, picked, osRelease) })
		if err != nil {
			return nil, err
		}
		s.run.Own(all)
		s.warn(all.warnings...)
		return all, nil
	}}
}

func (s *start) stage(is *situation, v *hierarchy.View, all *opened) steps.Step[*made] {
	return steps.Step[*made]{Do: func(ctx context.Context) (*made, error) {
		number, err := s.lock.NextNumber(is.record)
		if err != nil {
			return nil, err
		}
		m := &made{host: s.host, view: v, all: all, source: hierarchy.Source{Generation: number, Serial: nextSerial(is.record, v), Name: s.name}}
		if m.layers, err = layersOf(is, all, m.source); err != nil {
			return nil, err
		}
		s.run.Own(m)
		if m.staged, err = hierarchy.Stage(ctx, v, m.layers.wanted, len(is.settings.ReloadCheck) > 0); err != nil {
			return m, err
		}
		s.warn(notThere(is.settings, v)...)
		return m, nil
	}}
}

// settle looks once more at what is mounted below the hierarchies: a check may have
// taken a while.
func (s *start) settle(m *made) steps.Step[struct{}] {
	return steps.Step[struct{}]{Do: func(ctx context.Context) (struct{}, error) {
		return struct{}{}, m.settle(ctx, s.ns, s.live, s.run.Own)
	}}
}

// attach moves this thread into a namespace of its own, which follows the host's
// mounts as systemd has it for its services, and shows the new trees there.
func (s *start) attach(is *situation, m *made) steps.Step[struct{}] {
	return steps.Step[struct{}]{Do: func(context.Context) (struct{}, error) {
		if err := nsmount.Unshare(propagation(is.settings.Service.MountFlags)); err != nil {
			return struct{}{}, explainUnshare(err)
		}
		return struct{}{}, exchangeAll(m.staged)
	}}
}

func propagation(flags string) nsmount.Propagation {
	switch flags {
	case "slave":
		return nsmount.Slave
	case "private":
		return nsmount.Private
	default:
		return nsmount.Shared
	}
}

// explainUnshare names what keeps a service from having its own namespace.
func explainUnshare(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: the sandbox forbids it: look for CapabilityBoundingSet= without CAP_SYS_ADMIN, SystemCallFilter= without @mount, RestrictNamespaces= or PrivateUsers= in the unit, or adopt it: let systemd apply the extensions, with ExtensionDirectories= and ExtensionImages= in [Service]", err)
	}
	return err
}

// record writes down what this start shows. It runs in the new namespace, with
// the directories that the lock holds open in the host view.
func (s *start) record(is *situation, m *made) steps.Step[struct{}] {
	unrecord := func(context.Context, struct{}) error {
		// Where the command could not be executed we may be another user by now, who
		// may not; a record of a process that is gone does no harm.
		if is.record.Schema == 0 {
			_ = s.lock.Remove()
		} else {
			_ = s.lock.Save(is.record)
			if p := is.record.Pending; p != nil {
				begun := *is.record
				begun.Current = *p
				_ = s.lock.Begin(&begun)
			}
		}
		return nil
	}
	return steps.Step[struct{}]{Undo: unrecord, Do: func(ctx context.Context) (struct{}, error) {
		r := &state.Record{Unit: s.Unit, Refs: refsOf(is.settings), Flags: s.Flags.record()}
		r.Current = generationOf(is, m.source, triggerRun, m.all, m.layers, m.staged)
		if err := s.identifyIn(ctx, r); err != nil {
			return struct{}{}, err
		}
		if err := s.lock.Save(r); err != nil {
			return struct{}{}, err
		}
		if is.record.Pending != nil { // what a reload began in the place of the service before this one
			if err := s.lock.Abort(); err != nil {
				s.warn(err.Error()) // the next reload puts it in order
			}
		}
		w := s.lock.AddHistory(r.Current, is.settings.KeepGenerations)
		if w == nil {
			w = overcome(s.lock, is.memory, r, false)
		}
		s.warnOf(w)
		s.shown = true
		return struct{}{}, nil
	}}
}

// identifyIn notes in a record who we are: this process, in the namespace of this
// thread.
func (s *start) identifyIn(ctx context.Context, r *state.Record) error {
	// The unit's /proc may show processes alone (ProcSubset=pid).
	boot, err := nsmount.Do(ctx, s.host, func() (string, error) { return recorded.Boot(), nil })
	if err != nil {
		return err
	}
	ns, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return err
	}
	defer ns.Close()
	self, err := service.Open(os.Getpid())
	if err != nil {
		return err
	}
	r.PID, r.StartTime, r.Boot = self.PID(), self.StartTime(), boot
	r.MountNS, err = service.MountNamespaceID(ns)
	return errors.Join(err, self.Close())
}

// execute becomes the user and the command.
func (s *start) execute(is *situation, who *identity) error {
	path, err := lookPath(s.Argv[0])
	if err != nil {
		return &ExitError{ExitExec, explainExec(s.Argv[0], err)}
	}
	if who != nil {
		if err := who.change.Apply(); err != nil {
			return &ExitError{ExitUser, err}
		}
	}
	if err := s.changeDirectory(is.settings, who); err != nil {
		return &ExitError{ExitChdir, err}
	}
	argv := append([]string{}, s.Argv...)
	if s.Argv0 != "" {
		argv[0] = s.Argv0
	}
	// systemd ignores SIGPIPE in what it starts. The Go runtime has put a handler over that, which exec would
	// turn into the default; of what was ignored before, it keeps SIGHUP and SIGINT alone.
	if s.systemd && is.settings.Service.IgnoreSIGPIPE {
		signal.Ignore(unix.SIGPIPE)
	}
	// unix.Exec restores the soft RLIMIT_NOFILE that the Go runtime has raised.
	err = unix.Exec(path, argv, os.Environ())
	return &ExitError{ExitExec, explainExec(path, err)}
}

// explainExec says what to do about a command that cannot be executed.
func explainExec(name string, err error) error {
	remedy := ""
	switch {
	case errors.Is(err, unix.ENOEXEC):
		remedy = ": it is no program: a script needs a first line such as \"#!/bin/sh\""
	case errors.Is(err, fs.ErrPermission):
		remedy = ": the user that it runs as must be allowed to execute it, on a file system without noexec (NoExec=)"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, exec.ErrNotFound), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		remedy = ": it must be there with the extensions laid over (extexec inspect --files lists what is in one), and so must its interpreter"
	}
	return fmt.Errorf("execute %q: %w%s", name, err, remedy)
}

// changeDirectory goes where the unit wants the command to be. The directory that
// systemd has set is a covered one by now, so it is entered again by its path.
func (s *start) changeDirectory(is settings.Settings, who *identity) error {
	dir := is.Service.WorkingDirectory
	if !s.systemd || dir == "" {
		wd, err := os.Getwd()
		if err != nil || os.Chdir(wd) != nil {
			return os.Chdir("/")
		}
		return nil
	}
	if dir == "~" {
		dir = who.home()
	}
	if err := os.Chdir(dir); err != nil {
		if is.Service.WorkingDirectoryMissingOK {
			return os.Chdir("/")
		}
		return fmt.Errorf("change to WorkingDirectory=%s: %w", dir, err)
	}
	return nil
}

func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		var e *exec.Error
		if errors.As(err, &e) {
			return "", e.Err
		}
		return "", err
	}
	return path, nil
}

func (s *start) warnOf(w *state.Warning) {
	if w != nil {
		s.warn(w.Error())
	}
}

func (s *start) warn(texts ...string) {
	for _, t := range texts {
		if s.Warn != nil {
			s.Warn(t)
		}
	}
}
