package credential

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
)

// maxStatus bounds what is read of a status file. A process may have 65536
// supplementary groups (setgroups(2)), of up to eleven bytes each.
const maxStatus = 1 << 20

// A Credential is what the kernel knows a process by. The ids are as the reader
// of the status file sees them, that is, in the reader's user namespace; the
// capabilities are those that the process has in its own (user_namespaces(7)).
type Credential struct {
	UID, EUID, SUID uint32
	GID, EGID, SGID uint32
	Groups          []uint32 // supplementary groups, as the kernel sorts them

	Inheritable, Permitted, Effective, Bounding, Ambient CapSet

	NoNewPrivs bool
}

// A Status is what /proc/PID/status says of a process, as far as it is needed to
// put a command in its place.
type Status struct {
	Credential
	Umask uint32
	// PIDs is the process's id in every pid namespace from the reader's (of its
	// /proc) inwards; the last is how the process itself sees it.
	PIDs []int
}

// Read parses a /proc/PID/status file that the caller has opened and keeps.
func Read(f *os.File) (Status, error) {
	b, err := io.ReadAll(io.LimitReader(f, maxStatus+1))
	if err != nil {
		return Status{}, fmt.Errorf("read %q: %w", f.Name(), err)
	}
	if len(b) > maxStatus {
		return Status{}, fmt.Errorf("read %q: longer than %d bytes", f.Name(), maxStatus)
	}
	s, err := ParseStatus(b)
	if err != nil {
		return Status{}, fmt.Errorf("read %q: %w", f.Name(), err)
	}
	return s, nil
}

// ParseStatus parses the text of /proc/PID/status, proc_pid_status(5). Lines
// that it does not know are passed over; one that it needs and that is missing
// or no number is an error.
func ParseStatus(text []byte) (Status, error) {
	var p statusParser
	for line := range bytes.Lines(text) {
		key, value, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(":"))
		if !ok {
			continue
		}
		if err := p.line(string(key), bytes.Fields(value)); err != nil {
			return Status{}, err
		}
	}
	if p.seen != allFields {
		return Status{}, fmt.Errorf("parse status: fields are missing (found %#x of %#x)", p.seen, allFields)
	}
	return p.status, nil
}

type statusField uint

const (
	fieldUID statusField = 1 << iota
	fieldGID
	fieldGroups
	fieldInheritable
	fieldPermitted
	fieldEffective
	fieldBounding
	fieldAmbient
	fieldNoNewPrivs
	allFields = fieldNoNewPrivs<<1 - 1
)

type statusParser struct {
	status Status
	seen   statusField
}

func (p *statusParser) line(key string, values [][]byte) error {
	s := &p.status
	switch key {
	case "Uid":
		return p.ids(key, fieldUID, values, &s.UID, &s.EUID, &s.SUID)
	case "Gid":
		return p.ids(key, fieldGID, values, &s.GID, &s.EGID, &s.SGID)
	case "Groups":
		return p.groups(values)
	case "CapInh":
		return p.caps(key, fieldInheritable, values, &s.Inheritable)
	case "CapPrm":
		return p.caps(key, fieldPermitted, values, &s.Permitted)
	case "CapEff":
		return p.caps(key, fieldEffective, values, &s.Effective)
	case "CapBnd":
		return p.caps(key, fieldBounding, values, &s.Bounding)
	case "CapAmb":
		return p.caps(key, fieldAmbient, values, &s.Ambient)
	case "NoNewPrivs":
		n, err := p.number(key, values, 10, 8)
		s.NoNewPrivs = n != 0
		p.seen |= fieldNoNewPrivs
		return err
	case "Umask":
		n, err := p.number(key, values, 8, 12)
		s.Umask = uint32(n)
		return err
	case "NSpid":
		return p.pids(values)
	}
	return nil
}

// ids reads the real, effective and saved id; the fourth, for file systems,
// follows the effective one in everything that a unit can start.
func (p *statusParser) ids(key string, field statusField, values [][]byte, to ...*uint32) error {
	if len(values) < len(to) {
		return fmt.Errorf("parse status: %q has %d values, not 4", key, len(values))
	}
	for i, v := range to {
		n, err := strconv.ParseUint(string(values[i]), 10, 32)
		if err != nil {
			return fmt.Errorf("parse status: %q: %w", key, err)
		}
		*v = uint32(n)
	}
	p.seen |= field
	return nil
}

func (p *statusParser) groups(values [][]byte) error {
	groups := make([]uint32, 0, len(values))
	for _, v := range values {
		n, err := strconv.ParseUint(string(v), 10, 32)
		if err != nil {
			return fmt.Errorf("parse status: %q: %w", "Groups", err)
		}
		groups = append(groups, uint32(n))
	}
	p.status.Groups = groups
	p.seen |= fieldGroups
	return nil
}

func (p *statusParser) caps(key string, field statusField, values [][]byte, to *CapSet) error {
	n, err := p.number(key, values, 16, 64)
	*to = CapSet(n)
	p.seen |= field
	return err
}

func (p *statusParser) pids(values [][]byte) error {
	pids := make([]int, 0, len(values))
	for _, v := range values {
		n, err := strconv.ParseInt(string(v), 10, 32)
		if err != nil || n < 0 {
			return fmt.Errorf("parse status: %q: bad process id %q", "NSpid", v)
		}
		pids = append(pids, int(n))
	}
	p.status.PIDs = pids
	return nil
}

func (p *statusParser) number(key string, values [][]byte, base, bits int) (uint64, error) {
	if len(values) != 1 {
		return 0, fmt.Errorf("parse status: %q has %d values, not 1", key, len(values))
	}
	n, err := strconv.ParseUint(string(values[0]), base, bits)
	if err != nil {
		return 0, fmt.Errorf("parse status: %q: %w", key, err)
	}
	return n, nil
}
