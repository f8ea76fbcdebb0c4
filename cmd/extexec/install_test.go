package main

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/nsmount/nsmounttest"
	"github.com/extexec/extexec/reload/state"
)

// A stall is a unit that does not run, with a place for directories and one for images.
type stall struct {
	t    *testing.T
	dir  string
	unit string
}

func newStall(t *testing.T) *stall {
	nsmounttest.Root(t) // what root does not own is not to be trusted
	s := &stall{t: t, dir: t.TempDir()}
	s.unit = s.dir + "/web" // and ".service", which may be left out
	must(t, os.WriteFile(s.unit+".service", []byte("[Service]\nExecStart=/bin/true\n[X-Extexec]\n"+
		"ExtensionDirectories="+s.dir+"/conf.v\nExtensionImages="+s.dir+"/tools.v\n"), 0o644))
	must(t, os.Mkdir(s.dir+"/conf.v", 0o755))
	must(t, os.Mkdir(s.dir+"/tools.v", 0o755))
	return s
}

// confext makes a directory that is a good version.
func (s *stall) confext(name string) string {
	dir := filepath.Join(s.dir, "made", name)
	must(s.t, os.MkdirAll(dir+"/etc/extension-release.d", 0o755))
	must(s.t, os.WriteFile(dir+"/etc/extension-release.d/extension-release.conf", []byte("ID=_any\n"), 0o644))
	must(s.t, os.WriteFile(dir+"/etc/file", []byte("text\n"), 0o644))
	return dir
}

func (s *stall) install(source string, hook func(point string) error) error {
	var lines bytes.Buffer
	i := &installer{app: &app{out: &lines, log: slog.New(slog.NewTextHandler(&lines, nil))}, noReload: true, hook: hook}
	err := i.install(s.t.Context(), source, s.unit)
	if err != nil && lines.Len() > 0 {
		s.t.Errorf("install %s has failed, and said %s before", source, &lines)
	}
	return err
}

// has is what the two places have.
func (s *stall) has() string {
	var names []string
	for _, dir := range []string{"/conf.v", "/tools.v"} {
		entries, err := os.ReadDir(s.dir + dir)
		must(s.t, err)
		for _, e := range entries {
			names = append(names, e.Name())
		}
	}
	return strings.Join(names, " ")
}

// TestInstallOfBadThings: whatever it is, it is refused in one line, with exit code 1, and
// nothing is left.
func TestInstallOfBadThings(t *testing.T) {
	s := newStall(t)
	file := func(name, text string) string {
		path := filepath.Join(s.dir, "made", name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	made := func(name string, err error) string {
		must(t, err)
		return filepath.Join(s.dir, "made", name)
	}
	for _, c := range []struct{ name, source, want string }{
		{"nothing", s.dir + "/made/conf_1", "no such file or directory"},
		{"an empty directory", made("conf_2", os.MkdirAll(s.dir+"/made/conf_2", 0o755)), "extension-release"},
		{"another name", s.confext("other_3"), `has no ".v" directory`},
		{"a name without a version", s.confext("conf"), `has no ".v" directory`},
		{"a name that is not complete", s.confext("conf_4.tmp"), "has the name of an unfinished file"},
		{"another architecture", s.confext("conf_5_m68k"), "architecture"},
		{"a directory for images", s.confext("tools_7.raw"), `has no ".v" directory`},
		{"an image for directories", file("conf_8.raw", "x"), `has no ".v" directory`},
		{"no image", file("tools_9.raw", strings.Repeat("x", 1<<16)), "tools_9.raw"},
		{"an empty image", file("tools_10.raw", ""), "tools_10.raw"},
		{"a compressed image", file("tools_11.raw.zst", "x"), `has no ".v" directory`},
		{"a fifo", made("tools_12.raw", unix.Mkfifo(s.dir+"/made/tools_12.raw", 0o644)), "tools_12.raw"},
		{"a device", made("tools_13.raw", unix.Mknod(s.dir+"/made/tools_13.raw", unix.S_IFCHR, 1<<8|3)), "tools_13.raw"},
		{"what others own", made("conf_16", os.Chown(s.confext("conf_16"), 65534, 65534)), "is owned by uid 65534"},
		{"what others can write", made("conf_17", os.Chmod(s.confext("conf_17"), 0o777)), "can be written by others"},
		{"a dangling link", made("conf_14", os.Symlink("nowhere", s.dir+"/made/conf_14")), "no such file or directory"},
		{"a link to itself", made("conf_15", os.Symlink("conf_15", s.dir+"/made/conf_15")), "too many levels of symbolic links"},
	} {
		err := s.install(c.source, nil)
		switch {
		case err == nil || exitCode(err) != exitFailed || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n"):
			t.Errorf("%s: exit code %d, %v; want %q", c.name, exitCode(err), err, c.want)
		case s.has() != "":
			t.Fatalf("%s: left is %s", c.name, s.has())
		}
	}
}

// TestInstallLink: what is a link is followed, so that the version stays what it is.
func TestInstallLink(t *testing.T) {
	s := newStall(t)
	must(t, os.Symlink(s.confext("build"), s.dir+"/made/conf_1"))
	must(t, s.install(s.dir+"/made/conf_1", nil))
	if st, err := os.Lstat(s.dir + "/conf.v/conf_1"); err != nil || !st.IsDir() {
		t.Errorf("there is %v, %v; want a directory", st, err)
	}
}

// TestInstallFails: wherever it fails, nothing is left of it.
func TestInstallFails(t *testing.T) {
	s := newStall(t)
	boom := errors.New("boom")
	points := []string{}
	must(t, s.install(s.confext("conf_1"), func(point string) error { points = append(points, point); return nil }))
	for _, fail := range points {
		err := s.install(s.confext("conf_2"), func(point string) error {
			if point == fail {
				return boom
			}
			return nil
		})
		if !errors.Is(err, boom) || exitCode(err) != exitFailed || s.has() != "conf_1" {
			t.Errorf("%s: %v, and left is %s", fail, err, s.has())
		}
	}
	if len(points) < 6 {
		t.Errorf("the points are %q", points)
	}
}

// TestLive: what cannot be known of a record may be what the service has.
func TestLive(t *testing.T) {
	dir := t.TempDir()
	has := func(path string) state.Generation {
		return state.Generation{Number: 1, Extensions: []state.Extension{{Path: path}}}
	}
	u, err := state.In(dir).Unit("web.service")
	must(t, err)
	l, err := u.Lock(t.Context(), 0)
	must(t, err)
	must(t, l.Save(&state.Record{Current: has("/a")}))
	must(t, l.Begin(&state.Record{Current: has("/b")}))
	must(t, l.Close())
	for path, want := range map[string]bool{"/a": true, "/b": true, "/c": false} {
		if got := live(state.In(dir), "web.service", path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	if live(state.In(dir), "other.service", "/a") {
		t.Error("without a record it is live")
	}
	must(t, os.WriteFile(dir+"/record/web.service/state.json", []byte("{"), 0o644))
	if !live(state.In(dir), "web.service", "/c") {
		t.Error("a record that cannot be read says that it is not live")
	}
}

// TestInstallMeanwhile: others change what is copied, and where it goes.
func TestInstallMeanwhile(t *testing.T) {
	t.Run("the source", func(t *testing.T) {
		s := newStall(t)
		source := s.confext("conf_2")
		must(t, os.MkdirAll(s.dir+"/bin", 0o755))
		must(t, os.WriteFile(s.dir+"/bin/cp", []byte("#!/bin/sh\n/bin/cp \"$@\"\necho more >>"+source+"/etc/file\n"), 0o755))
		t.Setenv("PATH", s.dir+"/bin:"+os.Getenv("PATH"))
		err := s.install(source, nil)
		if err == nil || !strings.Contains(err.Error(), "it changed while it was copied") || s.has() != "" {
			t.Errorf("%v, and left is %s", err, s.has())
		}
	})
	t.Run("the name is taken", func(t *testing.T) {
		s := newStall(t)
		err := s.install(s.confext("conf_2"), func(point string) error {
			if point == "before rename" {
				return os.WriteFile(s.dir+"/conf.v/conf_2", nil, 0o644)
			}
			return nil
		})
		st, statErr := os.Lstat(s.dir + "/conf.v/conf_2")
		must(t, statErr)
		if !errors.Is(err, fs.ErrExist) || exitCode(err) != exitFailed || !st.Mode().IsRegular() || s.has() != "conf_2" {
			t.Errorf("%v, and left is %s", err, s.has())
		}
	})
	t.Run("the directory is replaced", func(t *testing.T) {
		s := newStall(t)
		err := s.install(s.confext("conf_2"), func(point string) error {
			if point == "before rename" {
				return errors.Join(os.Rename(s.dir+"/conf.v", s.dir+"/old.v"), os.Mkdir(s.dir+"/conf.v", 0o755))
			}
			return nil
		})
		var undo *steps.UndoError // what is aside has gone with the old one
		if !errors.As(err, &undo) || s.has() != "" {
			t.Errorf("%v, and left is %s", err, s.has())
		}
		must(t, errors.Join(os.Remove(s.dir+"/conf.v"), os.Rename(s.dir+"/old.v", s.dir+"/conf.v")))
		must(t, s.install(s.confext("conf_3"), nil))
		if s.has() != "conf_3" {
			t.Errorf("after the next installation there is %s", s.has())
		}
	})
}
