package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/extexec/extexec/image/devmapper"
	"github.com/extexec/extexec/image/gpt"
	"github.com/extexec/extexec/image/policy"
	"github.com/extexec/extexec/image/signature"
)

// judge says which volumes of an image may be used, and checks their signatures: the policy and RequireSignature=
// against what was found. Nothing was verified yet, but what has verity data will be.
func (x *examined) judge(o Options) error {
	if err := x.checkOthers(o.Policy); err != nil {
		return err
	}
	used := x.volumes[:0]
	for _, v := range x.volumes {
		ok, err := v.judge(o)
		if err != nil {
			return fmt.Errorf("%w: %w", policy.ErrDenied, err)
		}
		if ok {
			used = append(used, v)
		}
	}
	x.volumes = used
	if len(used) == 0 {
		return fmt.Errorf("%w: %q ignores all its partitions", policy.ErrDenied, o.Policy)
	}
	return nil
}

// decide judges for those who open nothing afterwards. A signature that judge leaves to the kernel is put to it here.
func (x *examined) decide(f *os.File, o Options) error {
	if err := x.judge(o); err != nil {
		return err
	}
	for i := range x.volumes {
		v := &x.volumes[i]
		if v.needsKernel == nil {
			continue
		}
		// No copy is made of what needs the kernel, so it has no name and cannot take long.
		dev, _, err := v.device(context.Background(), f, "", o)
		if err != nil {
			return err
		}
		if err := dev.Close(); err != nil {
			return err
		}
	}
	return nil
}

// checkOthers holds the policy against the partitions that are not mounted, and against those that are missing.
func (x *examined) checkOthers(p policy.Policy) error {
	there := map[string]bool{}
	for _, q := range x.partitions {
		there[q.Kind.Designator] = true
	}
	for _, v := range x.volumes {
		there[v.designator()] = true
		there[v.designator()+"-verity"] = there[v.designator()+"-verity"] || v.verity != nil
		there[v.designator()+"-verity-sig"] = there[v.designator()+"-verity-sig"] || v.verity != nil && v.verity.sig != nil
	}
	for d := range policy.Designators() {
		f := p.Allowed(d)
		switch {
		case d.Protects() && !p.Explicit(d):
			// It follows from the rule for the data, which is judged with it.
		case !there[d.String()] && f&policy.Absent == 0:
			return fmt.Errorf("%w: %q demands a %s partition, and it has none", policy.ErrDenied, p, d)
		case there[d.String()] && f&policy.UseMask == policy.Absent:
			return fmt.Errorf("%w: %q forbids a %s partition, and it has one", policy.ErrDenied, p, d)
		}
	}
	return nil
}

// judge says whether a volume is used.
func (v *volume) judge(o Options) (bool, error) {
	d, _ := policy.DesignatorNamed(v.designator())
	f := o.Policy.Allowed(d)
	use := f & policy.UseMask
	if use&^policy.Ignore == 0 { // Absent alone was refused before.
		return false, nil
	}
	if err := v.checkAttributes(f, o.Policy); err != nil {
		return false, err
	}
	// A rule for the hash tree or the signature alone can say that it does not count.
	protected := v.verity != nil && counts(o.Policy, v.designator()+"-verity")
	signable := protected && v.verity.sig != nil && counts(o.Policy, v.designator()+"-verity-sig")
	var untrusted error
	if signable && (use&policy.Signed != 0 || o.RequireSignature) {
		untrusted = v.checkSignature(o)
	}
	reason := v.reason(use, protected, o, untrusted)
	if reason == nil {
		return true, nil
	}
	// The kernel may have keys that are in no verity.d.
	if signable && v.signer == "" && permits(use, true, true) && !o.NoDeviceMapper && devmapper.Available() == nil {
		v.needsKernel = fmt.Errorf("%w: %w", policy.ErrDenied, reason)
		return true, nil
	}
	return false, reason
}

// counts says whether a policy lets a hash tree or a signature be used.
func counts(p policy.Policy, designator string) bool {
	d, _ := policy.DesignatorNamed(designator)
	return !p.Explicit(d) || p.Allowed(d)&policy.Unprotected != 0
}

// permits says whether a policy takes a volume with what it has.
func permits(use policy.Flags, verity, signed bool) bool {
	var has policy.Flags
	switch {
	case signed:
		// Less than what it has may be asked for; a hash tree is used all the same.
		has = policy.Signed | policy.Verity | policy.Unprotected
	case verity:
		has = policy.Verity | policy.Unprotected
	default:
		has = policy.Unprotected
	}
	return use&has != 0
}

// reason says why a volume is not used; nil: it is.
func (v *volume) reason(use policy.Flags, protected bool, o Options, untrusted error) error {
	signed := v.signer != ""
	switch {
	case o.RequireSignature && !signed:
		return fmt.Errorf("RequireSignature=yes, and its %s is not signed: %w", v, v.why(untrusted))
	case permits(use, protected, signed):
		return nil
	case use&(policy.Signed|policy.Verity) == policy.Signed:
		return fmt.Errorf("%q wants its %s signed: %w", o.Policy, v, v.why(untrusted))
	case use&(policy.Signed|policy.Verity) != 0:
		return fmt.Errorf("%q wants its %s protected by verity: %w", o.Policy, v, v.why(untrusted))
	}
	return fmt.Errorf("%q wants its %s encrypted, which is not supported", o.Policy, v)
}

// why says why a volume is not signed.
func (v *volume) why(untrusted error) error {
	switch {
	case untrusted != nil:
		return untrusted
	case v.verity == nil:
		return errNoVerity
	case v.verity.sig != nil:
		return errors.New("the policy does not let its hash tree or its signature be used")
	}
	return fmt.Errorf("its root hash (in %s) has no signature", v.verity.rootFrom)
}

// checkAttributes holds the policy against type and attributes of a volume.
func (v *volume) checkAttributes(f policy.Flags, p policy.Policy) error {
	if types := f.FSTypes(); len(types) > 0 && !strings.Contains(" "+strings.Join(types, " ")+" ", " "+string(v.fsType)+" ") {
		return fmt.Errorf("%q wants its %s to be %s, and it is %s", p, v, strings.Join(types, " or "), v.fsType)
	}
	if v.whole {
		return nil
	}
	for _, a := range []struct {
		name    string
		on, off policy.Flags
		is      bool
	}{
		{"read-only", policy.ReadOnlyOn, policy.ReadOnlyOff, v.attrs.ReadOnly()},
		{"growfs", policy.GrowFSOn, policy.GrowFSOff, v.attrs.GrowFS()},
	} {
		if a.is && f&a.on == 0 && f&a.off != 0 {
			return fmt.Errorf("%q forbids the attribute %s of its %s", p, a.name, v)
		}
		if !a.is && f&a.off == 0 && f&a.on != 0 {
			return fmt.Errorf("%q wants the attribute %s of its %s", p, a.name, v)
		}
	}
	return nil
}

// checkSignature looks for a trusted certificate that the root hash is signed with, and remembers which.
func (v *volume) checkSignature(o Options) error {
	if v.verity.sig == nil {
		return fmt.Errorf("its root hash (in %s) has no signature", v.verity.rootFrom)
	}
	dirs := o.Certificates
	if dirs == nil {
		dirs = signature.Dirs()
	}
	trusted, skipped := signature.Load(dirs)
	c, err := signature.Verify(v.verity.sig, v.verity.root, trusted, time.Now())
	if err != nil {
		err = fmt.Errorf("its signature (in %s) is not trusted: %w", v.verity.sigFrom, err)
		for _, s := range skipped {
			err = fmt.Errorf("%w; %w", err, s)
		}
		v.untrusted = err
		return err
	}
	v.signer = c.Path
	return nil
}

func (v *volume) String() string {
	if v.whole {
		return "file system"
	}
	return v.designator() + " partition"
}

// examined is what is known of an image when nothing of it was mounted.
type examined struct {
	format     string
	volumes    []volume
	partitions []gpt.Partition // those that are not ignored
	beside     sidecars
}

// Close closes what lies beside the image.
func (x *examined) Close() error { return x.beside.Close() }
