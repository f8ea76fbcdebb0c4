package portable_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount/nsmounttest"
)

// TestFullDisk makes every transaction on a disk that has no room at all, then on one
// with a little more, until it goes through: so the disk is full at every write in turn.
// Before that the host is as it was, to the byte, and the error says why.
func TestFullDisk(t *testing.T) {
	nsmounttest.Root(t)
	for _, tr := range transactions {
		for _, limit := range []string{"nr_inodes", "nr_blocks"} {
			t.Run(tr.name+" "+limit, func(t *testing.T) { fullDisk(t, limit, tr.do) })
		}
	}
	t.Run("the first attach", func(t *testing.T) {
		p := placeOnDisk(t)
		fill(t, p, "nr_inodes", func(ctx context.Context) error {
			r := p.request("web_1")
			_, err := p.host.Attach(ctx, r)
			return err
		})
	})
}

func fullDisk(t *testing.T, limit string, do func(context.Context, *place) error) {
	p := placeOnDisk(t)
	p.prepare()
	fill(t, p, limit, func(ctx context.Context) error { return do(ctx, p) })
}

// placeOnDisk is a place whose host has a disk of its own.
func placeOnDisk(t *testing.T) *place {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/host", 0o755); err != nil {
		t.Fatal(err)
	}
	nsmounttest.Tmpfs(t, dir+"/host", "size=16m")
	return newPlaceIn(t, dir)
}

// fill tries with more and more room.
func fill(t *testing.T, p *place, limit string, do func(context.Context) error) {
	t.Helper()
	host := p.dir + "/host"
	var st unix.Statfs_t
	if err := unix.Statfs(host, &st); err != nil {
		t.Fatal(err)
	}
	used := st.Files - st.Ffree
	if limit == "nr_blocks" {
		used = st.Blocks - st.Bfree
	}
	before := p.files()
	delete(before, "/etc/systemd/") // of the first attach
	const most = 100
	for room := range uint64(most) {
		nsmounttest.Resize(t, host, fmt.Sprintf("%s=%d", limit, used+room))
		err := do(t.Context())
		if err == nil {
			if room == 0 && limit == "nr_inodes" {
				t.Error("it needed no room")
			}
			return
		}
		if !errors.Is(err, unix.ENOSPC) && !strings.Contains(strings.ToLower(err.Error()), unix.ENOSPC.Error()) { // cp(1) says it in words
			t.Errorf("with room for %d: %v", room, err)
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("with room for %d it said more than a line: %v", room, err)
		}
		after := p.files()
		delete(after, "/etc/systemd/")
		if d := cmp.Diff(before, after); d != "" {
			t.Fatalf("with room for %d it failed, and the host is another:\n%s", room, d)
		}
		if left, _ := filepath.Glob(host + "/*/*/.extexec-*"); len(left) > 0 {
			t.Fatalf("with room for %d: left is %q", room, left)
		}
	}
	t.Errorf("room for %d is not enough", most)
}

// TestOverlay: /etc is an overlay, as on systems that are images. What was attached there
// can be exchanged.
func TestOverlay(t *testing.T) {
	p := newPlace(t)
	p.overlay()
	p.base("web_2", "web.service", "web-new.service")
	for _, how := range []string{"", "mixed"} {
		r := p.request("web_1")
		r.Copy = how
		if _, err := p.host.Attach(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		r.Base = p.dir + "/web_2"
		if _, err := p.host.Reattach(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if _, err := p.host.Detach(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
}

// overlay makes /etc one, over what is in the directory "lower".
func (p *place) overlay() {
	p.t.Helper()
	for _, dir := range []string{"lower", "upper", "work"} {
		p.write(dir+"/.keep", "")
	}
	nsmounttest.Overlay(p.t, p.dir+"/host/etc", fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", p.dir))
}

// TestOverlayShipped: what is attached is of a lower layer.
func TestOverlayShipped(t *testing.T) {
	p := newPlace(t)
	p.write("lower/systemd/system.attached/shipped.service", "[Service]\nExecStart=/bin/true\n")
	p.overlay()
	before := p.files()
	if _, err := p.host.Attach(t.Context(), p.request("web_1")); !errors.Is(err, unix.EXDEV) || !strings.Contains(err.Error(), "--runtime") {
		t.Errorf("attached: %v", err)
	}
	if d := cmp.Diff(before, p.files()); d != "" {
		t.Errorf("the host is another:\n%s", d)
	}
}
