package credential

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// systemd's user database over varlink (https://systemd.io/USER_GROUP_API):
// sockets named for the service that answers, in one directory.
const (
	dynamicUserService = "io.systemd.DynamicUser"
	multiplexerService = "io.systemd.Multiplexer"

	userDatabase  = "io.systemd.UserDatabase"
	noRecordFound = userDatabase + ".NoRecordFound"
)

// A user record is a few kilobytes; membership lists come as many messages.
const (
	maxMessage  = 1 << 20
	maxMessages = 1 << 16
)

// errNoRecord says that the service answered, and knows no such name.
var errNoRecord = errors.New("no such record")

// A userdb asks one directory of varlink sockets.
type userdb struct {
	dir      string
	deadline time.Time
}

// query is the parameters of the three methods; service must always be there.
type query struct {
	Service   string  `json:"service"`
	UserName  string  `json:"userName,omitempty"`
	GroupName string  `json:"groupName,omitempty"`
	UID       *uint32 `json:"uid,omitempty"`
	GID       *uint32 `json:"gid,omitempty"`
}

type call struct {
	Method     string `json:"method"`
	Parameters query  `json:"parameters"`
	More       bool   `json:"more,omitempty"`
}

type reply struct {
	Error      string          `json:"error"`
	Continues  bool            `json:"continues"`
	Parameters json.RawMessage `json:"parameters"`
}

// record is the part of a user or group record (systemd.io/USER_RECORD) that a
// credential is made of.
type record struct {
	Record struct {
		UserName      string  `json:"userName"`
		GroupName     string  `json:"groupName"`
		UID           *uint32 `json:"uid"`
		GID           *uint32 `json:"gid"`
		HomeDirectory string  `json:"homeDirectory"`
		Shell         string  `json:"shell"`
	} `json:"record"`
}

type membership struct {
	UserName  string `json:"userName"`
	GroupName string `json:"groupName"`
}

// user asks a service for a user by name, or by id where id is given. The error
// wraps errNoRecord when there is none, fs.ErrNotExist when nobody answers.
func (u userdb) user(service, name string, id *uint32) (*account, error) {
	var found *account
	err := u.call(service, call{Method: userDatabase + ".GetUserRecord", Parameters: query{UserName: name, UID: id}},
		func(parameters []byte) error {
			a, err := parseUserRecord(parameters)
			found = a
			return err
		})
	if err == nil && found == nil {
		err = errNoRecord
	}
	return found, err
}

// group asks a service for a group by name, or by id where id is given.
func (u userdb) group(service, name string, id *uint32) (*group, error) {
	var found *group
	err := u.call(service, call{Method: userDatabase + ".GetGroupRecord", Parameters: query{GroupName: name, GID: id}},
		func(parameters []byte) error {
			g, err := parseGroupRecord(parameters)
			found = g
			return err
		})
	if err == nil && found == nil {
		err = errNoRecord
	}
	return found, err
}

// memberships lists the names of the groups that a user is a member of.
func (u userdb) memberships(service, user string) ([]string, error) {
	var groups []string
	err := u.call(service, call{Method: userDatabase + ".GetMemberships", Parameters: query{UserName: user}, More: true},
		func(parameters []byte) error {
			var m membership
			if err := json.Unmarshal(parameters, &m); err != nil {
				return err
			}
			if m.UserName == user && m.GroupName != "" {
				groups = append(groups, m.GroupName)
			}
			return nil
		})
	if errors.Is(err, errNoRecord) {
		return nil, nil
	}
	return groups, err
}

func parseUserRecord(parameters []byte) (*account, error) {
	var r record
	if err := json.Unmarshal(parameters, &r); err != nil {
		return nil, err
	}
	if r.Record.UserName == "" || r.Record.UID == nil {
		return nil, errors.New("the user record has no name or no uid")
	}
	a := &account{name: r.Record.UserName, uid: *r.Record.UID, home: r.Record.HomeDirectory, shell: r.Record.Shell}
	// Where a record names no group, the user has one of the same number.
	a.gid = a.uid
	if r.Record.GID != nil {
		a.gid = *r.Record.GID
	}
	if !validID(a.uid) || !validID(a.gid) {
		return nil, errors.New("the user record has an id that stands for none")
	}
	return a, nil
}

func parseGroupRecord(parameters []byte) (*group, error) {
	var r record
	if err := json.Unmarshal(parameters, &r); err != nil {
		return nil, err
	}
	if r.Record.GroupName == "" || r.Record.GID == nil {
		return nil, errors.New("the group record has no name or no gid")
	}
	if !validID(*r.Record.GID) {
		return nil, errors.New("the group record has an id that stands for none")
	}
	return &group{name: r.Record.GroupName, gid: *r.Record.GID}, nil
}

func validID(id uint32) bool { return id != 0xffffffff && id != 0xffff }

// call sends one call and hands the parameters of each reply to see.
func (u userdb) call(service string, c call, see func(parameters []byte) error) error {
	c.Parameters.Service = service
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	conn, err := u.dial(service)
	if err != nil {
		return fmt.Errorf("ask %q: %w", service, err)
	}
	defer conn.close()
	if err := conn.send(append(text, 0)); err != nil {
		return fmt.Errorf("ask %q: %w", service, err)
	}
	for range maxMessages {
		message, err := conn.receive()
		if err != nil {
			return fmt.Errorf("ask %q: %w", service, err)
		}
		more, err := takeReply(message, see)
		if err != nil {
			return fmt.Errorf("ask %q: %w", service, err)
		}
		if !more {
			return nil
		}
	}
	return fmt.Errorf("ask %q: more than %d replies", service, maxMessages)
}

// takeReply parses one reply; more says that another one follows.
func takeReply(message []byte, see func(parameters []byte) error) (more bool, err error) {
	var r reply
	if err := json.Unmarshal(message, &r); err != nil {
		return false, fmt.Errorf("parse reply: %w", err)
	}
	switch {
	case r.Error == noRecordFound:
		return false, errNoRecord
	case r.Error != "":
		return false, fmt.Errorf("the service answers %q", r.Error)
	case len(r.Parameters) == 0:
		return r.Continues, nil
	}
	return r.Continues, see(r.Parameters)
}

// A connection is a plain blocking socket with a time limit. Package net is not
// used: it would serve the socket from other threads, and the path must be
// looked up on this one.
type connection struct {
	fd       int
	deadline time.Time
	rest     []byte // received, and not part of an earlier message
}

func (u userdb) dial(service string) (*connection, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	c := &connection{fd: fd, deadline: u.deadline}
	if err := c.arm(unix.SO_SNDTIMEO); err != nil {
		c.close()
		return nil, err
	}
	path := filepath.Join(u.dir, service)
	err = ignoringEINTR(func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) })
	if err != nil {
		c.close()
		return nil, &fs.PathError{Op: "connect", Path: path, Err: err}
	}
	return c, nil
}

func (c *connection) close() { unix.Close(c.fd) }

// arm makes the next blocking call end when the deadline does.
func (c *connection) arm(option int) error {
	left := time.Until(c.deadline)
	if left <= 0 {
		return unix.ETIMEDOUT
	}
	// A zero timeval would mean no limit.
	tv := unix.NsecToTimeval(max(left, time.Millisecond).Nanoseconds())
	return unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, option, &tv)
}

func (c *connection) send(b []byte) error {
	for len(b) > 0 {
		if err := c.arm(unix.SO_SNDTIMEO); err != nil {
			return err
		}
		n, err := unix.SendmsgN(c.fd, b, nil, nil, unix.MSG_NOSIGNAL)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return timedOut(err)
		}
		b = b[max(n, 0):]
	}
	return nil
}

// receive returns the next message, without the NUL that ends it.
func (c *connection) receive() ([]byte, error) {
	buf := make([]byte, 4096)
	for {
		if message, rest, ok := bytes.Cut(c.rest, []byte{0}); ok {
			c.rest = rest
			return message, nil
		}
		if len(c.rest) > maxMessage {
			return nil, fmt.Errorf("the reply is longer than %d bytes", maxMessage)
		}
		if err := c.arm(unix.SO_RCVTIMEO); err != nil {
			return nil, err
		}
		n, err := unix.Read(c.fd, buf)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, timedOut(err)
		case n == 0:
			return nil, errors.New("the service hung up")
		default:
			c.rest = append(c.rest, buf[:n]...)
		}
	}
}

// timedOut gives EAGAIN, which SO_RCVTIMEO ends a wait with, its plain name.
func timedOut(err error) error {
	if errors.Is(err, unix.EAGAIN) {
		return unix.ETIMEDOUT
	}
	return err
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
