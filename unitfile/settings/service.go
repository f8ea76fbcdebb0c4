package settings

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/extexec/extexec/unitfile"
)

// Service is what the wrapper must know of [Service]. Specifiers are done;
// names of users and groups are not looked up.
type Service struct {
	Type                string // as systemd would take it: "simple" where nothing is said
	User, Group         string // "" is not set; DynamicUser= sets both
	SupplementaryGroups []string
	DynamicUser         bool

	WorkingDirectory          string // absolute, "~" (the user's home), or "" (not set)
	WorkingDirectoryMissingOK bool
	RootDirectory, RootImage  string // "" or absolute; "/" is ""
	MountFlags                string // "shared", "slave", "private", or "" (not set)

	AmbientCapabilities   Capabilities
	CapabilityBoundingSet Capabilities // all where nothing is said
	NoNewPrivileges       bool
	IgnoreSIGPIPE         bool // true where nothing is said

	NoLoginEnvironment bool     // SetLoginEnvironment=no: no USER, LOGNAME, HOME, SHELL
	UnsetEnvironment   []string // "NAME" or "NAME=VALUE"

	// Sandbox are the assignments that Forbids judges, in order, specifiers
	// not done.
	Sandbox []unitfile.Assignment
}

func (r *reader) service() error {
	s := &r.set.Service
	s.CapabilityBoundingSet = AllCapabilities
	for _, a := range r.unit.Assignments {
		if a.Section == "Service" && slices.Contains(sandboxKeys, a.Key) {
			s.Sandbox = append(s.Sandbox, a)
		}
	}
	r.serviceType()
	s.AmbientCapabilities = mergeCapabilities(r.unit.All("Service", "AmbientCapabilities"), 0)
	s.CapabilityBoundingSet = mergeCapabilities(r.unit.All("Service", "CapabilityBoundingSet"), AllCapabilities)
	r.boolean("DynamicUser", &s.DynamicUser)
	r.boolean("NoNewPrivileges", &s.NoNewPrivileges)
	r.boolean("IgnoreSIGPIPE", &s.IgnoreSIGPIPE)
	r.environment()
	if a, ok := r.unit.Last("Service", "MountFlags"); ok {
		if a.Value == "" || slices.Contains([]string{"shared", "slave", "private"}, a.Value) {
			s.MountFlags = a.Value
		} else {
			r.warn(a, "unknown propagation %q: ignored", a.Value)
		}
	}
	if err := r.users(); err != nil {
		return err
	}
	return r.directories()
}

// environment reads what is taken away from the environment. Like systemd it
// leaves out a value that cannot be read.
func (r *reader) environment() {
	s := &r.set.Service
	login := true
	r.boolean("SetLoginEnvironment", &login)
	s.NoLoginEnvironment = !login
	for _, a := range r.unit.List("Service", "UnsetEnvironment") {
		words, err := unitfile.Words(a.Value)
		for i := 0; i < len(words) && err == nil; i++ {
			words[i], err = r.spec.Expand(words[i])
		}
		if err != nil {
			r.warn(a, "%v: ignored", err)
			continue
		}
		s.UnsetEnvironment = append(s.UnsetEnvironment, words...)
	}
}

var serviceTypes = []string{"simple", "exec", "forking", "oneshot", "dbus", "notify", "notify-reload", "idle"}

func (r *reader) serviceType() {
	for _, a := range slices.Backward(r.unit.All("Service", "Type")) {
		if slices.Contains(serviceTypes, a.Value) {
			r.set.Service.Type = a.Value
			return
		}
		r.warn(a, "unknown type %q: ignored", a.Value)
	}
	switch a, _ := r.unit.Last("Service", "BusName"); {
	case a.Value != "":
		r.set.Service.Type = "dbus"
	case len(r.unit.List("Service", "ExecStart")) == 0:
		r.set.Service.Type = "oneshot"
	default:
		r.set.Service.Type = "simple"
	}
}

func (r *reader) boolean(key string, to *bool) {
	for _, a := range r.unit.All("Service", key) {
		if v, err := unitfile.ParseBool(a.Value); err != nil {
			r.warn(a, "%v: ignored", err)
		} else {
			*to = v
		}
	}
}

// expanded gives the last value of a key with its specifiers done. What
// systemd refuses to start a unit for is an error here too.
func (r *reader) expanded(key string) (a unitfile.Assignment, value string, err error) {
	a, ok := r.unit.Last("Service", key)
	if !ok || a.Value == "" {
		return a, "", nil
	}
	if value, err = r.spec.Expand(a.Value); err != nil {
		err = bad(a, err)
	}
	return a, value, err
}

func (r *reader) users() error {
	s := &r.set.Service
	for _, u := range []struct {
		key string
		to  *string
	}{{"User", &s.User}, {"Group", &s.Group}} {
		a, name, err := r.expanded(u.key)
		if err != nil {
			return err
		}
		if a.Value != "" && !userNameOK(name) {
			return a.Errorf("%s=: %q is no name of a user or group", u.key, name)
		}
		*u.to = name
	}
	for _, a := range r.unit.List("Service", "SupplementaryGroups") {
		for _, word := range strings.Fields(a.Value) {
			name, err := r.spec.Expand(word)
			if err == nil && !userNameOK(name) {
				err = fmt.Errorf("%q is no name of a group", name)
			}
			if err != nil {
				return bad(a, err)
			}
			s.SupplementaryGroups = append(s.SupplementaryGroups, name)
		}
	}
	if s.DynamicUser {
		if s.User == "" {
			s.User = dynamicUserName(r.unit.Name.Prefix())
		}
		if s.Group == "" {
			s.Group = s.User
		}
	}
	return nil
}

// userNameOK is the relaxed rule of systemd's valid_user_group_name, with
// which it takes what is in User=.
func userNameOK(s string) bool {
	if s == "" || len(s) > 255 || s != strings.TrimSpace(s) || s == "." || s == ".." {
		return false
	}
	for _, c := range []byte(s) {
		if c < ' ' || c == 0x7f || c == ':' || c == '/' {
			return false
		}
	}
	return true
}

func (r *reader) directories() error {
	s := &r.set.Service
	a, value, err := r.expanded("WorkingDirectory")
	if err != nil {
		return err
	}
	value, s.WorkingDirectoryMissingOK = strings.CutPrefix(value, "-")
	switch {
	case value == "" && s.WorkingDirectoryMissingOK:
		return bad(a, errors.New("no path after \"-\""))
	case value == "" || value == "~":
		s.WorkingDirectory = value
	default:
		if s.WorkingDirectory, err = cleanPath(value); err != nil {
			return bad(a, err)
		}
	}
	for _, d := range []struct {
		key string
		to  *string
	}{{"RootDirectory", &s.RootDirectory}, {"RootImage", &s.RootImage}} {
		a, value, err := r.expanded(d.key)
		if err != nil {
			return err
		}
		if value == "" {
			continue
		}
		if value, err = cleanPath(value); err != nil {
			return bad(a, err)
		}
		if value != "/" {
			*d.to = value
		}
	}
	return nil
}
