package policy

import (
	"errors"
	"fmt"
	"strings"
)

// ErrDenied is what a refusal by a policy is; package image wraps it.
var ErrDenied = errors.New("the image policy does not allow it")

// What can be wrong with a policy string; a *ParseError wraps one of them. systemd's errno is in brackets.
var (
	ErrSyntax     = errors.New(`want "partition=flag+flag" rules, separated by ":"`) // [EINVAL]
	ErrDesignator = errors.New("unknown partition")                                  // [EBADSLT]
	ErrFlag       = errors.New("unknown flag")                                       // [EBADRQC]
	ErrDuplicate  = errors.New("two rules for the same partition")                   // [ENOTUNIQ]
)

// ParseError says which word of a policy string is wrong, and how.
type ParseError struct {
	Policy string // the whole string
	Word   string // the rule, partition or flag
	Err    error
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("parse image policy %q: %v: %q", e.Policy, e.Err, e.Word)
}

func (e *ParseError) Unwrap() error { return e.Err }

type rule struct {
	flags Flags
	given bool
}

// Policy is one image policy. The zero value is the policy "-": nothing may be used. Policies are comparable with
// ==, which asks whether they were written alike; Equivalent asks whether they allow the same.
type Policy struct {
	rules [designators]rule
	rest  rule // for the partitions without a rule; not given means Ignore
}

// Default is what systemd applies to the extension images of a unit that has no ExtensionImagePolicy=: root and
// usr however they are protected, and nothing else.
func Default() Policy {
	var p Policy
	p.rules[Root] = rule{Open &^ Unused, true}
	p.rules[Usr] = rule{Open &^ Unused, true}
	return p
}

// Parse reads a policy string, strictly: an unknown partition or flag is an error. Errors are *ParseError.
func Parse(s string) (Policy, error) {
	p, _, err := parse(s, false)
	return p, err
}

// ParseGraceful reads a policy string as systemd reads it in a unit file: unknown partitions and flags are left
// out, and returned as errors to warn of. What remains wrong is a *ParseError with ErrSyntax or ErrDuplicate.
// Note that a rule all of whose flags are unknown becomes a rule without flags, which allows everything.
//
// In a unit an empty value is not the policy "" but takes the setting back, to Default: that is the caller's part.
func ParseGraceful(s string) (Policy, []error, error) { return parse(s, true) }

func parse(s string, graceful bool) (Policy, []error, error) {
	switch s {
	case "", "-":
		return Policy{rest: rule{Ignore, true}}, nil, nil
	case "*":
		return Policy{rest: rule{Open, true}}, nil, nil
	case "~":
		return Policy{rest: rule{Absent, true}}, nil, nil
	}
	var p Policy
	var warnings []error
	for part := range strings.SplitSeq(s, ":") {
		name, flags, found := strings.Cut(part, "=")
		if !found {
			return Policy{}, nil, &ParseError{s, part, ErrSyntax}
		}
		r, known, err := p.find(strip(name))
		if err != nil {
			return Policy{}, nil, &ParseError{s, strip(name), err}
		}
		if !known {
			e := &ParseError{s, strip(name), ErrDesignator}
			if !graceful {
				return Policy{}, nil, e
			}
			warnings = append(warnings, e)
			continue
		}
		f, unknown := parseFlags(strip(flags))
		for _, word := range unknown {
			warnings = append(warnings, &ParseError{s, word, ErrFlag})
		}
		if len(unknown) > 0 && !graceful {
			return Policy{}, nil, warnings[0]
		}
		*r = rule{f, true}
	}
	return p, warnings, nil
}

// find gives the place of a rule by the name of its partition; a rule without a name is for the rest.
func (p *Policy) find(name string) (*rule, bool, error) {
	r := &p.rest
	if name != "" {
		d, ok := DesignatorNamed(name)
		if !ok {
			return nil, false, nil
		}
		r = &p.rules[d]
	}
	if r.given {
		return nil, false, ErrDuplicate
	}
	return r, true, nil
}

func parseFlags(s string) (flags Flags, unknown []string) {
	if s == "" || s == "-" {
		return 0, nil
	}
	for word := range strings.SplitSeq(s, "+") {
		f, ok := flagNamed(strip(word))
		if !ok {
			unknown = append(unknown, strip(word))
			continue
		}
		flags |= f
	}
	return flags, unknown
}

func strip(s string) string { return strings.Trim(s, " \t\n\r") }

// Allowed gives what the policy says about one kind of partition: its own rule, else, for a verity or signature
// partition, what follows from the rule for the partition that it protects, else the rule for the rest. Flags that
// have no meaning for that partition are taken out; flags that were left open are filled in.
func (p Policy) Allowed(d Designator) Flags {
	if d < 0 || d >= designators {
		return 0
	}
	if r := p.rules[d]; r.given {
		return normalize(d, r.flags)
	}
	if data, needs, ok := d.protects(); ok && p.rules[data].given {
		if f := p.Allowed(data); f&needs != 0 {
			return normalize(d, Unprotected|f&(Ignore|attrMask))
		}
	}
	return normalize(d, p.restFlags())
}

func (p Policy) restFlags() Flags {
	if !p.rest.given {
		return Ignore
	}
	return p.rest.flags
}

func normalize(d Designator, f Flags) Flags {
	f = f.extend()
	if _, _, protects := d.protects(); protects {
		// It is the protection, and has none itself.
		f &^= Verity | Signed | Encrypted | EncryptedWithIntegrity
	}
	if d != Root && d != Usr {
		f &^= Verity | Signed
	}
	if f&UseMask == Absent {
		f &^= attrMask
	}
	return f
}

// Explicit says whether the policy has a rule for d itself.
func (p Policy) Explicit(d Designator) bool { return d >= 0 && d < designators && p.rules[d].given }

// FSType gives the file system that the policy pins a partition to, if it names exactly one, and whether the
// partition is also bound to be encrypted.
func (p Policy) FSType(d Designator) (fsType string, encrypted, ok bool) {
	f := p.Allowed(d)
	names := f.FSTypes()
	if len(names) != 1 {
		return "", false, false
	}
	crypt := f&(Encrypted|EncryptedWithIntegrity) != 0
	return names[0], crypt && f&(Verity|Signed|Unprotected) == 0, true
}

// Equivalent says whether two policies allow the same.
func (p Policy) Equivalent(q Policy) bool {
	if p.restFlags().extend() != q.restFlags().extend() {
		return false
	}
	for d := range designators {
		if p.Allowed(d) != q.Allowed(d) {
			return false
		}
	}
	return true
}

// String gives the shortest policy string that allows the same.
func (p Policy) String() string {
	for _, s := range []string{"*", "-", "~"} {
		if q, err := Parse(s); err == nil && p.Equivalent(q) {
			return s
		}
	}
	var rules []string
	for d := range designators {
		without := p
		without.rules[d] = rule{}
		if without.Equivalent(p) {
			p = without
			continue
		}
		rules = append(rules, d.String()+"="+p.rules[d].flags.String())
	}
	if p.restFlags().extend() != Ignore.extend() {
		rules = append(rules, "="+p.restFlags().String())
	}
	return strings.Join(rules, ":")
}
