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
	if j.set.RequireSignature {
		found = append(found, at(where("RequireSignature"), Error, "take it out, or use directories", "this version checks no signatures, so every image is refused"))
	}
	if a := where("ExtensionImagePolicy"); !j.set.Policy.Open() {
		found = append(found, at(a, Error, `write "*", or use directories`, "this version verifies no images, so under the policy %q every image is refused", j.set.Policy))
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
