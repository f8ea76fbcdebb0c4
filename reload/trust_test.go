package reload

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// TestUntrustedPath makes a directory on the way writable for everyone.
func TestUntrustedPath(t *testing.T) {
	b := newBed(t)
	b.start()
	b.install("2")
	if err := os.Chmod(b.dir+"/conf.v", 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := b.reload(Options{})
	if err == nil || !strings.Contains(err.Error(), b.dir+"/conf.v") || !strings.Contains(err.Error(), "--allow-untrusted-path") {
		t.Errorf("error %v, want one that names the directory and the way out", err)
	}
	b.want("1")

	loose := newBed(t)
	loose.loose = true
	loose.start()
	loose.install("2")
	if err := os.Chmod(loose.dir+"/conf.v", 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := loose.reload(Options{}); err != nil {
		t.Error(err)
	}
	loose.want("2")
}

// TestHierarchyIsDropped takes a hierarchy out of Hierarchies=: it loses its
// overlay at the next reload, and the others keep theirs.
func TestHierarchyIsDropped(t *testing.T) {
	b := newBed(t)
	b.write("")
	b.start()
	b.write("Hierarchies=/usr /etc")
	if _, err := b.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	if m := b.svc.Table(" /opt "); len(m) != 0 {
		t.Errorf("/opt still has %q", m)
	}
	for _, h := range []string{"/usr", "/etc"} {
		if got := b.svc.Read(h + "/extexec-test"); got != "1" {
			t.Errorf("%s shows %q", h, got)
		}
	}
	res, err := b.reload(Options{IfChanged: true})
	if err != nil || res.Exchanged {
		t.Errorf("the next reload: %+v, %v; want nothing to do", res, err)
	}
	b.write("Hierarchies=/usr /etc/ssl")
	if _, err := b.reload(Options{}); err == nil || !strings.Contains(err.Error(), "restart the service") {
		t.Errorf("a hierarchy within another: %v", err)
	}
}

// TestApplyFailsBothWays has a ReloadCommand= that never works: the old state is
// back all the same, and that the service was not told so is said.
func TestApplyFailsBothWays(t *testing.T) {
	b := newBed(t)
	b.write("ReloadCommand=/bin/false")
	b.start()
	b.install("2")
	_, err := b.reload(Options{})
	var f *Failure
	if !errors.As(err, &f) || f.Left != TakenBack || f.Untold == nil {
		t.Errorf("error %v, want one that says taken back, and untold", err)
	}
	b.want("1")
	b.whole()
}
