package credential

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// A Spec is what a unit says of its user. Names and numbers are as written,
// specifiers expanded.
type Spec struct {
	User                string // with DynamicUser= also where the unit has no User=
	Group               string
	SupplementaryGroups []string
	DynamicUser         bool
}

// A Database is where names are looked up. The zero value is the host's.
type Database struct {
	Passwd string        // default /etc/passwd
	Group  string        // default /etc/group
	UserDB string        // directory of varlink sockets, default /run/systemd/userdb
	Limit  time.Duration // for all of the varlink calls of one Resolve, default 10 s
}

// A User is what a process has to become for a unit, and what systemd tells it
// about itself.
type User struct {
	Name  string // "" when the unit names no user
	Home  string // "" when systemd would not set HOME
	Shell string // "" when systemd would not set SHELL

	UID, GID       uint32
	SetUID, SetGID bool // false: the id stays as it is

	// Groups replaces the supplementary groups where SetGroups is true.
	Groups    []uint32
	SetGroups bool
}

// An UnknownError says that a user or group has no entry anywhere. systemd
// would end with status 217.
type UnknownError struct {
	Kind string // "user" or "group"
	Name string
	Err  error // why the last source did not answer; nil when all did
}

func (e *UnknownError) Error() string {
	why := ""
	if e.Err != nil {
		why = fmt.Sprintf(" (%v)", e.Err)
	}
	return fmt.Sprintf("look up %s %q: neither /etc/%s nor systemd's user database has it%s: create it, or correct the unit",
		e.Kind, e.Name, map[string]string{"user": "passwd", "group": "group"}[e.Kind], why)
}

func (e *UnknownError) Unwrap() error { return e.Err }

// Resolve looks up what a unit says of its user, as systemd's exec_child does:
// the group is Group= or the user's own; the supplementary groups are the
// user's memberships and then SupplementaryGroups=. The calling thread's view
// of the database counts: the host's, before any overlay. A name that nobody
// has is an [*UnknownError].
func Resolve(s Spec, db Database) (User, error) {
	r := newResolver(s, db)
	var u User
	if err := r.user(s, &u); err != nil {
		return User{}, err
	}
	if err := r.group(s, &u); err != nil {
		return User{}, err
	}
	return u, r.supplementary(s, &u)
}

// Env is the variables that systemd sets for the user, "USER=…" and so on; none
// where the unit names none.
func (u User) Env() []string {
	if u.Name == "" {
		return nil
	}
	env := []string{"USER=" + u.Name, "LOGNAME=" + u.Name}
	if u.Home != "" {
		env = append(env, "HOME="+u.Home)
	}
	if u.Shell != "" {
		env = append(env, "SHELL="+u.Shell)
	}
	return env
}

// Credential is what a process with the credential c has once it has become the
// user: other ids, and for any user but root only the ambient capabilities
// (capabilities(7), "Effect of user ID changes" and "Transformation of
// capabilities during execve").
func (u User) Credential(c Credential) Credential {
	if u.SetGroups {
		c.Groups = slices.Clone(u.Groups)
	}
	if u.SetGID {
		c.GID, c.EGID, c.SGID = u.GID, u.GID, u.GID
	}
	if u.SetUID {
		c.UID, c.EUID, c.SUID = u.UID, u.UID, u.UID
	}
	if u.SetUID && u.UID != 0 {
		c.Permitted, c.Effective = c.Ambient, c.Ambient
	}
	return c
}

type resolver struct {
	db     Database
	userdb userdb
	// services are the varlink services to ask, in this order.
	services []string
}

func newResolver(s Spec, db Database) *resolver {
	set := func(to *string, value string) {
		if *to == "" {
			*to = value
		}
	}
	set(&db.Passwd, "/etc/passwd")
	set(&db.Group, "/etc/group")
	set(&db.UserDB, "/run/systemd/userdb")
	if db.Limit == 0 {
		db.Limit = 10 * time.Second
	}
	r := &resolver{db: db, userdb: userdb{dir: db.UserDB, deadline: time.Now().Add(db.Limit)}}
	if s.DynamicUser {
		// The manager itself answers for its dynamic users, also where
		// systemd-userdbd is not installed.
		r.services = append(r.services, dynamicUserService)
	}
	r.services = append(r.services, multiplexerService)
	return r
}

func (r *resolver) user(s Spec, u *User) error {
	if s.User == "" {
		return nil
	}
	a, err := r.account(s.User)
	if err != nil {
		return err
	}
	u.Name, u.UID, u.SetUID = a.name, a.uid, true
	u.GID, u.SetGID = a.gid, true
	u.Home, u.Shell = telling(a.home), telling(a.shell)
	if slices.Contains(placeholderShells, u.Shell) {
		u.Shell = ""
	}
	return nil
}

// placeholderShells are those that systemd does not put into SHELL
// (is_nologin_shell).
var placeholderShells = []string{
	"/bin/nologin", "/sbin/nologin", "/usr/bin/nologin", "/usr/sbin/nologin",
	"/bin/false", "/usr/bin/false", "/bin/true", "/usr/bin/true",
}

// telling is the path, cleaned; "" for what systemd would rather not set.
func telling(p string) string {
	if !path.IsAbs(p) || path.Clean(p) == "/" || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' }) {
		return ""
	}
	return path.Clean(p)
}

func (r *resolver) group(s Spec, u *User) error {
	if s.Group == "" {
		return nil
	}
	gid, err := r.gid(s.Group)
	if err != nil {
		return err
	}
	u.GID, u.SetGID = gid, true
	return nil
}

// supplementary fills in the groups. For a primary group 0 systemd asks nobody
// for memberships, and where nothing remains it leaves the groups alone
// (get_supplementary_groups).
func (r *resolver) supplementary(s Spec, u *User) error {
	if u.Name != "" && u.GID != 0 {
		memberships, err := r.memberships(u.Name)
		if err != nil {
			return err
		}
		u.Groups = append([]uint32{u.GID}, memberships...)
		u.SetGroups = true
	}
	for _, name := range s.SupplementaryGroups {
		gid, err := r.gid(name)
		if err != nil {
			return err
		}
		u.Groups = append(u.Groups, gid)
		u.SetGroups = true
	}
	slices.Sort(u.Groups)
	u.Groups = slices.Compact(u.Groups)
	return nil
}

// account finds a user by name, or by number where the name is one.
func (r *resolver) account(name string) (*account, error) {
	id, isID := parseID(name)
	// For these two systemd asks nobody, whatever the files say (get_user_creds).
	switch {
	case name == "root" || isID && id == 0:
		return &account{name: "root", home: "/root", shell: rootShell()}, nil
	case name == "nobody" || isID && id == nobody:
		return &account{name: "nobody", uid: nobody, gid: nobody, home: "/"}, nil
	}
	a, err := findAccount(r.db.Passwd, func(a account) bool {
		return a.name == name || isID && a.uid == id
	})
	if err != nil || a != nil {
		return a, err
	}
	err = r.ask(func(service string) error {
		if isID {
			a, err = r.userdb.user(service, "", &id)
		} else {
			a, err = r.userdb.user(service, name, nil)
		}
		return err
	})
	if err != nil {
		return nil, unknown("user", name, err)
	}
	return a, nil
}

// nobody is the id of the user and of the group of that name in systemd.
const nobody = 65534

// rootShell is the shell that systemd is built with for root, where it is
// installed (default_root_shell).
func rootShell() string {
	const preferred = "/bin/bash"
	if _, err := os.Stat(preferred); err == nil {
		return preferred
	}
	return "/bin/sh"
}

// gid finds a group by name, or by number where the name is one.
func (r *resolver) gid(name string) (uint32, error) {
	id, isID := parseID(name)
	g, err := findGroup(r.db.Group, func(g group) bool {
		return g.name == name || isID && g.gid == id
	})
	if err != nil {
		return 0, err
	}
	switch {
	case g != nil:
		return g.gid, nil
	case name == "root" || isID && id == 0:
		return 0, nil
	case isID && id == nobody:
		return nobody, nil
	}
	err = r.ask(func(service string) error {
		if isID {
			g, err = r.userdb.group(service, "", &id)
		} else {
			g, err = r.userdb.group(service, name, nil)
		}
		return err
	})
	if err != nil {
		return 0, unknown("group", name, err)
	}
	return g.gid, nil
}

// memberships lists the groups of a user: those of the group file, and for a
// user who is in no file those that the user database has.
func (r *resolver) memberships(user string) ([]uint32, error) {
	gids, err := membershipsIn(r.db.Group, user)
	if err != nil {
		return nil, err
	}
	local, err := findAccount(r.db.Passwd, func(a account) bool { return a.name == user })
	if err != nil || local != nil {
		return gids, err
	}
	names, err := r.userdb.memberships(multiplexerService, user)
	if errors.Is(err, fs.ErrNotExist) {
		return gids, nil // no systemd-userdbd here
	}
	if err != nil {
		return nil, fmt.Errorf("list groups of user %q: %w", user, err)
	}
	for _, name := range names {
		gid, err := r.gid(name)
		if err != nil {
			return nil, fmt.Errorf("list groups of user %q: %w", user, err)
		}
		gids = append(gids, gid)
	}
	return gids, nil
}

// ask tries the services in turn until one has the record. The error is that of
// the first one that is there and could not be asked, else errNoRecord.
func (r *resolver) ask(one func(service string) error) error {
	result := errNoRecord
	for _, service := range r.services {
		err := one(service)
		if err == nil {
			return nil
		}
		if errors.Is(result, errNoRecord) && !errors.Is(err, fs.ErrNotExist) {
			result = err
		}
	}
	return result
}

// unknown makes the error for a name.
func unknown(kind, name string, err error) error {
	if errors.Is(err, errNoRecord) {
		err = nil
	}
	return &UnknownError{Kind: kind, Name: name, Err: err}
}
