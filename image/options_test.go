package image

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/image/probe"
	"github.com/extexec/extexec/nsmount"
)

func TestParseOptions(t *testing.T) {
	flag := func(k string) nsmount.Option { return nsmount.Option{Key: k, Flag: true} }
	value := func(k, v string) nsmount.Option { return nsmount.Option{Key: k, Value: v} }
	for _, c := range []struct {
		in      string
		attr    nsmount.Attr
		options []nsmount.Option
	}{
		{"", 0, nil},
		{"ro,rw,suid,dev,defaults,nofail,,async", 0, nil},
		{"noexec, nosymfollow", nsmount.AttrNoExec | nsmount.AttrNoSymfollow, nil},
		{"noexec,exec", 0, nil},
		{"exec,noexec", nsmount.AttrNoExec, nil},
		{"noatime,strictatime", nsmount.AttrStrictAtime, nil},
		{"strictatime,noatime,nodiratime", nsmount.AttrNoAtime | nsmount.AttrNoDirAtime, nil},
		{"noatime,relatime", 0, nil},
		{"x-systemd.relax-extension-release-check,X-foo", 0, nil},
		{"subvol=a,degraded,data=", 0, []nsmount.Option{value("subvol", "a"), flag("degraded"), value("data", "")}},
		{`context="system_u:object_r:usr_t:s0:c1,c2",acl`, 0,
			[]nsmount.Option{value("context", "system_u:object_r:usr_t:s0:c1,c2"), flag("acl")}},
	} {
		attr, options := parseOptions(c.in)
		if attr != c.attr {
			t.Errorf("%q: attributes %v, want %v", c.in, attr, c.attr)
		}
		if d := cmp.Diff(c.options, options); d != "" {
			t.Errorf("%q: %s", c.in, d)
		}
	}
}

func TestExplain(t *testing.T) {
	v := volume{fsType: probe.Btrfs}
	err := v.explain(&nsmount.OpError{Op: "fsopen", FSType: "btrfs", Err: unix.ENODEV})
	if !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "this kernel has no btrfs: load its module") {
		t.Errorf("got %v", err)
	}
	if v.explain(nil) != nil {
		t.Error("no error was explained")
	}
}
