package lint

import (
	"slices"
	"strings"

	"github.com/extexec/extexec/image/policy"
	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/unitfile/settings"
)

// sources: what the refs lead to is there, and can be had.
func sources(j judgement) (found []Finding) {
	for _, r := range j.set.Refs {
		src, known := j.facts.Sources[r.Path]
		if !known {
			continue
		}
		severity := Error
		if j.set.SkipBad && r.Origin != settings.FromService {
			severity = Warning // OnBadExtension=skip
		}
		switch {
		case src.Missing && r.Optional:
			found = append(found, atRef(r, Note, "", "%s, which \"-\" lets pass", src.Why))
		case src.Missing:
			found = append(found, atRef(r, severity, "", "%s", src.Why))
		case src.Why != "":
			found = append(found, atRef(r, severity, "install another version, or take the line out", "%s", src.Why))
		}
		if src.Untrusted != "" {
			found = append(found, j.untrusted(r, src))
		}
	}
	return found
}

// untrusted: a path that others can change is refused, unless the wrapper is told
// to take it.
func (j judgement) untrusted(r settings.Ref, src Source) Finding {
	severity := Error
	for _, l := range execs(j.unit, "ExecStart") {
		if IsRun(l.ExecCommand) && slices.Contains(l.Argv, "--allow-untrusted-path") {
			severity = Warning
		}
	}
	return atRef(r, severity, "let root alone write to it, and to each directory on the way", "who else can change %q decides what root mounts: %s", r.Path, src.Untrusted)
}

// imagePolicy: a policy that no image can satisfy, or that lets in what it seems to
// keep out.
func imagePolicy(j judgement) []Finding {
	images := j.images()
	if len(images) == 0 {
		return nil
	}
	where := func(key string) unitfile.Assignment {
		for _, section := range []string{settings.Section, "Service"} {
			if a, ok := j.last(section, key); ok {
				return a
			}
		}
		return unitfile.Assignment{File: j.unit.Fragment, Key: key}
	}
	var found []Finding
	if a := where("RequireSignature"); j.set.RequireSignature && slices.ContainsFunc(j.set.Refs, func(r settings.Ref) bool { return r.Kind == settings.Directory }) {
		found = append(found, at(a, Warning, "use images", "directories have no signature, and are used all the same"))
	}
	if a := where("ExtensionImagePolicy"); !usable(j.set.Policy) {
		found = append(found, at(a, Error, `let "signed", "verity" or "unprotected" in, for root or for usr`,
			"the policy %q lets no image in that extexec can use", j.set.Policy))
	}
	if a := where("ExtensionImagePolicy"); strings.Contains(a.Value, "signed") && !j.set.RequireSignature {
		for _, d := range []policy.Designator{policy.Root, policy.Usr} {
			if weaker := j.set.Policy.Allowed(d) & (policy.Verity | policy.Unprotected); j.set.Policy.Allowed(d)&policy.Signed != 0 && weaker != 0 {
				found = append(found, at(a, Warning, `write "signed" and "absent" alone, or RequireSignature=yes in [X-Extexec]`,
					"the policy looks stricter than it is: it is a set of what is allowed, and lets %q in for %s, too", weaker, d))
			}
		}
	}
	return found
}

// usable says whether there are images that a policy lets in and that can be had: encrypted ones are not supported.
func usable(p policy.Policy) bool {
	const flags = policy.Verity | policy.Signed | policy.Unprotected
	return (p.Allowed(policy.Root)|p.Allowed(policy.Usr))&flags != 0
}
