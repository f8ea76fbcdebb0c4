package extension

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension/release"
	"github.com/extexec/extexec/extension/vpick"
	"github.com/extexec/extexec/image/policy"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/nsmounttest"
	"github.com/extexec/extexec/unitfile/settings"
)

func TestMain(m *testing.M) { nsmounttest.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const (
	sysextFile  = "usr/lib/extension-release.d/extension-release."
	confextFile = "etc/extension-release.d/extension-release."
)

// debian is what the extensions of these tests are matched against.
func debian() OpenOptions {
	return OpenOptions{
		OS:           release.OS{File: "/etc/os-release", Fields: map[string]string{"ID": "debian", "VERSION_ID": "13"}},
		Architecture: "x86-64",
		Policy:       openPolicy(),
	}
}

func openPolicy() policy.Policy {
	p, err := policy.Parse("*")
	if err != nil {
		panic(err)
	}
	return p
}

// write makes files below a directory: a name with a slash at its end is a
// directory, a content " -> target" makes a symbolic link.
func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		target, link := strings.CutPrefix(content, " -> ")
		switch {
		case strings.HasSuffix(name, "/"):
			must(t, os.MkdirAll(path, 0o755))
		case link:
			must(t, os.Symlink(target, path))
		default:
			must(t, os.WriteFile(path, []byte(content), 0o644))
		}
	}
}

func dirRef(path string) settings.Ref { return settings.Ref{Kind: settings.Directory, Path: path} }

func imageRef(path string) settings.Ref { return settings.Ref{Kind: settings.Image, Path: path} }

func optional(r settings.Ref) settings.Ref {
	r.Optional = true
	return r
}

func pick(t testing.TB, ref settings.Ref) *Picked {
	t.Helper()
	p, err := Pick(ref, PickOptions{Arch: "x86-64"})
	must(t, err)
	if p == nil {
		t.Fatalf("Pick(%q) finds nothing", ref)
	}
	return p
}

func TestPickDirectory(t *testing.T) {
	top := t.TempDir()
	write(t, top, map[string]string{
		"web.v/web_1/etc/a": "1", "web.v/web_2/etc/a": "2", "web.v/web_3_arm64/etc/a": "3", "web.v/web_4 ": "a file", "web.v/web_5": " -> nowhere",
		"web.v/web_6.raw": "", "plain/etc/a": "x", "link": " -> plain",
	})
	p := pick(t, dirRef(top+"/web.v"))
	if p.Path != top+"/web.v/web_2" || p.Name != "web_2" || p.Version != "2" || p.Arch != "" || p.Kind != settings.Directory ||
		!strings.HasPrefix(p.Identity, "dir:") {
		t.Errorf("Pick gives %+v", p)
	}
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "web_5") {
		t.Errorf("Warnings = %q", p.Warnings)
	}
	whys := map[string]string{}
	for _, c := range p.Candidates {
		whys[c.Name] = c.Why
		if (c.Identity != "") != (c.Why == "") {
			t.Errorf("%+v", c)
		}
	}
	for name, why := range map[string]string{
		"web_6.raw": "is a regular file, not a directory", "web_5": "cannot be opened: no such file or directory", "web_2": "",
		"web_1": `is older than "web_2"`, "web_3_arm64": "is for architecture arm64, not x86-64",
	} {
		if whys[name] != why {
			t.Errorf("%s: %q, want %q", name, whys[name], why)
		}
	}

	// A literal path, and one that is a link: the link's name counts.
	if p := pick(t, dirRef(top+"/plain")); p.Name != "plain" || p.Version != "" {
		t.Errorf("literal path: %+v", p)
	}
	if p := pick(t, dirRef(top+"/link")); p.Name != "link" || p.Identity != pick(t, dirRef(top+"/plain")).Identity {
		t.Errorf("link: %+v", p)
	}
}

func TestPickImage(t *testing.T) {
	top := t.TempDir()
	write(t, top, map[string]string{"web.v/web_1.raw": "1", "web.v/web_2_x86-64+3-1.raw": "2", "web.v/web_9.raw/": "", "one.sysext.raw": "x", "odd": "x"})
	p := pick(t, imageRef(top+"/web.v"))
	if p.Path != top+"/web.v/web_2_x86-64+3-1.raw" || p.Name != "web_2_x86-64+3-1" || p.Version != "2" || p.Arch != "x86-64" ||
		!strings.HasPrefix(p.Identity, "file:") {
		t.Errorf("Pick gives %+v", p)
	}
	for path, name := range map[string]string{"/one.sysext.raw": "one", "/odd": "odd", "/web.v/web___.raw": "web_2_x86-64+3-1"} {
		if p := pick(t, imageRef(top+path)); p.Name != name {
			t.Errorf("%s: name %q, want %q", path, p.Name, name)
		}
	}
}

// TestIdentity: what is the same has the same identity, what is not has not.
func TestIdentity(t *testing.T) {
	top := t.TempDir()
	write(t, top, map[string]string{"a.raw": "xx", "d_1/etc/a": "1"})
	image := pick(t, imageRef(top+"/a.raw")).Identity
	if again := pick(t, imageRef(top+"/a.raw")).Identity; again != image {
		t.Errorf("the same image is %q and %q", image, again)
	}
	must(t, os.Rename(top+"/a.raw", top+"/b.raw"))
	write(t, top, map[string]string{"a.raw": "xx"})
	if renamed := pick(t, imageRef(top+"/b.raw")).Identity; renamed != image {
		t.Errorf("a renamed image is %q, was %q", renamed, image)
	}
	if other := pick(t, imageRef(top+"/a.raw")).Identity; other == image {
		t.Errorf("another image with the same name and content is %q too", other)
	}
	before := pick(t, imageRef(top+"/b.raw")).Identity
	must(t, os.Chtimes(top+"/b.raw", time.Time{}, time.Unix(1, 1)))
	if after := pick(t, imageRef(top+"/b.raw")).Identity; after == before {
		t.Errorf("an image that was written to is still %q", after)
	}

	dir := pick(t, dirRef(top+"/d_1")).Identity
	must(t, os.Rename(top+"/d_1", top+"/d_2"))
	if renamed := pick(t, dirRef(top+"/d_2")).Identity; renamed != dir {
		t.Errorf("a renamed directory is %q, was %q", renamed, dir)
	}
	write(t, top, map[string]string{"d_2/etc/b": ""})
	if changed := pick(t, dirRef(top+"/d_2")).Identity; changed == dir {
		t.Error("a directory with one more file has the same identity")
	}
}

// TestIdentityElsewhere: an image stays the same where its file system has another device
// number, as after a boot.
func TestIdentityElsewhere(t *testing.T) {
	nsmounttest.Root(t)
	top := t.TempDir()
	nsmounttest.Tmpfs(t, top, "")
	write(t, top, map[string]string{"disk/a.raw": "xx", "none/": "", "one/": "", "two/": ""})
	var found []pinned
	for _, at := range []string{"/one", "/two"} {
		nsmounttest.Overlay(t, top+at, "lowerdir="+top+"/disk:"+top+"/none")
		p := pick(t, imageRef(top+at+"/a.raw"))
		found = append(found, pinned{identity: p.Identity, changed: p.Changed, inode: p.file})
	}
	if found[0].inode.dev == found[1].inode.dev {
		t.Fatalf("both are on device %d", found[0].inode.dev)
	}
	if found[0].identity != found[1].identity || found[0].changed != found[1].changed {
		t.Errorf("the same image is %+v on one device, and %+v on another", found[0], found[1])
	}
}

// TestFileIdentity: two files that agree in all that does not tell files apart are told
// apart by their devices.
func TestFileIdentity(t *testing.T) {
	made := unix.StatxTimestamp{Sec: 1700000000, Nsec: 123456789}
	for _, c := range []struct {
		name string
		mask uint32
		made unix.StatxTimestamp
		same bool
	}{
		{"made at this time", unix.STATX_BTIME, made, true},
		{"made in this second, by what builds a file system", unix.STATX_BTIME, unix.StatxTimestamp{Sec: made.Sec}, false},
		{"nobody knows when", 0, unix.StatxTimestamp{}, false},
	} {
		one := unix.Statx_t{Mask: unix.STATX_BASIC_STATS | c.mask, Dev_major: 8, Dev_minor: 1, Ino: 12, Size: 4096, Mtime: made, Btime: c.made}
		other := one
		other.Dev_minor = 2
		if same := fileIdentity(&one) == fileIdentity(&other); same != c.same {
			t.Errorf("%s: %q and %q, want the same: %v", c.name, fileIdentity(&one), fileIdentity(&other), c.same)
		}
		other = one
		other.Ino = 13
		if fileIdentity(&one) == fileIdentity(&other) {
			t.Errorf("%s: two numbers are %q", c.name, fileIdentity(&one))
		}
	}
}

// TestPickRefused: what was refused is passed over, down to the next best; when
// nothing is left it is an error, also for a ref that may be missing.
func TestPickRefused(t *testing.T) {
	top := t.TempDir()
	write(t, top, map[string]string{"web.v/web_1/etc/a": "1", "web.v/web_2/etc/a": "2"})
	ref := dirRef(top + "/web.v")
	bad := map[string]string{pick(t, ref).Identity: "failed its check"}
	o := PickOptions{Refused: func(identity string) (string, bool) { why, ok := bad[identity]; return why, ok }}
	p, err := Pick(ref, o)
	must(t, err)
	if p.Name != "web_1" || p.Candidates[0].Why != "failed its check" || p.Candidates[0].Identity == "" {
		t.Errorf("Pick gives %+v", p)
	}
	bad[p.Identity] = ""
	for _, r := range []settings.Ref{ref, optional(ref)} {
		p, err := Pick(r, o)
		want := `no entry matches web_*; "web_2" failed its check; "web_1" was refused before`
		if p != nil || !errors.Is(err, vpick.ErrNoMatch) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("all refused: %+v, %v; want %q", p, err, want)
		}
	}
}

func TestPickErrors(t *testing.T) {
	top := t.TempDir()
	write(t, top, map[string]string{
		"dir/etc/a": "", "file.raw": "", "empty.v/": "", "dirs.v/dirs_1/etc/a": "", "raws.v/raws_1.raw": "", "arm.v/arm_1_arm64/": "",
		"file/x": "", "dangling": " -> nowhere", "links.v/links_1": " -> nowhere", "loop": " -> loop",
	})
	must(t, unix.Mkfifo(top+"/fifo", 0o600))
	for _, c := range []struct {
		ref     settings.Ref
		want    string // TOP stands for the directory
		missing bool   // with "-" it is no error
	}{
		{dirRef("TOP/none"), `pick extension "TOP/none": open TOP/none: no such file or directory: install it, or write "-TOP/none" if it may be missing`, true},
		{imageRef("TOP/none"), `no such file or directory: install it, or write "-TOP/none"`, true},
		{dirRef("TOP/none.v"), `install it, or write "-TOP/none.v"`, true},
		{dirRef("TOP/dangling"), `no such file or directory: install it`, true},
		{dirRef("TOP/empty.v"), `pick extension "TOP/empty.v": no entry matches empty_*: install a version there, or write "-TOP/empty.v" if there may be none`, true},
		{imageRef("TOP/empty.v"), `no entry matches empty_*.raw: install a version there`, true},
		{dirRef("TOP/arm.v"), `"arm_1_arm64" is for architecture arm64, not x86-64: install a version there`, true},
		{dirRef("TOP/links.v"), `"links_1" cannot be opened: no such file or directory: install a version there`, true},
		{imageRef("TOP/dir"), `pick extension "TOP/dir": no entry matches; "dir" is a directory, not a regular file or a block device: ExtensionDirectories= takes it`, false},
		{dirRef("TOP/file.raw"), `"file.raw" is a regular file, not a directory: ExtensionImages= takes it`, false},
		{imageRef("TOP/dirs.v"), `no entry matches dirs_*.raw: ExtensionDirectories= takes it`, true},
		{dirRef("TOP/raws.v"), `"raws_1.raw" is a regular file, not a directory: ExtensionImages= takes it`, true},
		{dirRef("TOP/fifo"), `"fifo" is a fifo, not a directory`, false},
		{imageRef("TOP/fifo"), `"fifo" is a fifo, not a regular file or a block device`, false},
		{dirRef("TOP/file.raw/below"), `open TOP/file.raw/below: not a directory: a file stands in the way of this path: remove it`, false},
		{dirRef("TOP/loop"), `open TOP/loop: too many levels of symbolic links: a link in this path leads back to itself: mend it`, false},
		{imageRef("TOP/loop/below"), `a link in this path leads back to itself: mend it, or name another path`, false},
	} {
		c.ref.Path = strings.Replace(c.ref.Path, "TOP", top, 1)
		want := strings.ReplaceAll(c.want, "TOP", top)
		p, err := Pick(c.ref, PickOptions{Arch: "x86-64"})
		var typed *Error
		if p != nil || !errors.As(err, &typed) || !strings.Contains(err.Error(), want) {
			t.Errorf("Pick(%v %q): %+v,\n%v, want\n%s", c.ref.Kind, c.ref, p, err, want)
		}
		p, err = Pick(optional(c.ref), PickOptions{Arch: "x86-64"})
		if p != nil || (err == nil) != c.missing {
			t.Errorf("Pick(%v %q): %+v, %v; missing: %v", c.ref.Kind, optional(c.ref), p, err, c.missing)
		}
	}
}

// TestPickGiven: what was given by its path is in no setting, so none is to be changed.
func TestPickGiven(t *testing.T) {
	top := t.TempDir()
	write(t, top, map[string]string{"empty.v/": ""})
	for path, want := range map[string]string{
		"/none": "no such file or directory: check the path", "/none.v": "no such file or directory: check the path", "/empty.v": "no entry matches empty_*: install a version there",
	} {
		if _, err := Pick(dirRef(top+path), PickOptions{Given: true}); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("Pick(%q): %v, want %q", path, err, want)
		}
	}
}

func TestOpenDirectory(t *testing.T) {
	nsmounttest.Root(t)
	top := t.TempDir()
	write(t, top, map[string]string{
		"web_1/" + sysextFile + "web": "ID=debian\nVERSION_ID=13\n", "web_1/usr/bin/web": "x", "web_1/etc/stray": "", "web_1/srv/www/index": "",
	})
	// What is mounted in it is no part of it.
	must(t, os.Mkdir(top+"/web_1/usr/mounted", 0o755))
	unmount := mountOn(t, top+"/web_1/usr/mounted")
	write(t, top, map[string]string{"web_1/usr/mounted/hidden": ""})
	o, err := Open(context.Background(), pick(t, dirRef(top+"/web_1")), debian())
	unmount()
	must(t, err)
	defer o.Close()

	if len(o.Classes) != 1 || o.Classes[0] != release.Sysext || o.Release.Fields["ID"] != "debian" || o.Info.Format != "" {
		t.Errorf("Open gives %+v", o)
	}
	checkLayers(t, o, map[string]bool{"/usr": true, "/opt": false, "/etc": false, "/srv": true, "/srv/www": true, "/etc/sub": false})
	if _, err := os.Lstat(o.Tree.Path() + "/usr/mounted/hidden"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was mounted below is there: %v", err)
	}
	if err := os.WriteFile(o.Tree.Path()+"/usr/new", nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("write to the tree: %v, want a read-only file system", err)
	}
}

// mountOn mounts an empty file system on a directory.
func mountOn(t *testing.T, path string) (unmount func()) {
	t.Helper()
	at, err := nsmount.OpenInRoot(path, unix.O_PATH|unix.O_DIRECTORY)
	must(t, err)
	tree, err := nsmount.MountFS(nsmount.FSConfig{Type: "tmpfs"})
	must(t, err)
	must(t, tree.Attach(at))
	must(t, tree.Close())
	t.Chdir("/") // DetachTop leaves the working directory elsewhere; this puts it back.
	return func() { must(t, errors.Join(nsmount.DetachTop(at), at.Close())) }
}

// checkLayers checks which hierarchies an extension gives, and that what it gives can
// be the layer of an overlay.
func checkLayers(t *testing.T, o *Opened, want map[string]bool) {
	t.Helper()
	for hierarchy, has := range want {
		f, ok, err := o.Layer(hierarchy)
		if err != nil || ok != has || (f != nil) != has {
			t.Errorf("Layer(%q) = %v, %v, %v; want %v", hierarchy, f, ok, err, has)
		}
		if f == nil {
			continue
		}
		config := nsmount.FSConfig{Type: "overlay", Options: []nsmount.Option{
			{Key: "lowerdir+", Value: fmt.Sprintf("/proc/self/fd/%d", f.Fd())},
			{Key: "lowerdir+"},
		}}
		base := openEmpty(t)
		config.Options[1].Value = base.Path()
		overlay, err := nsmount.MountFS(config)
		if err != nil {
			t.Errorf("Layer(%q) in an overlay: %v", hierarchy, err)
		} else {
			_ = overlay.Close()
		}
		_, _ = base.Close(), f.Close()
	}
}

func openEmpty(t *testing.T) *nsmount.Tree {
	t.Helper()
	tree, err := nsmount.EmptyTree()
	must(t, err)
	return tree
}

func TestOpenClasses(t *testing.T) {
	nsmounttest.Root(t)
	const fits = "ID=debian\nVERSION_ID=13\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  map[string]bool
	}{
		"sysext":           {map[string]string{sysextFile + "x": fits, "etc/a": "", "opt/a": ""}, map[string]bool{"/usr": true, "/opt": true, "/etc": false}},
		"confext":          {map[string]string{confextFile + "x": fits, "usr/a": "", "opt/a": ""}, map[string]bool{"/usr": false, "/opt": false, "/etc": true}},
		"both":             {map[string]string{sysextFile + "x": fits, confextFile + "x": fits, "srv/a": ""}, map[string]bool{"/usr": true, "/opt": false, "/etc": true, "/srv": true}},
		"any":              {map[string]string{confextFile + "x": "ID=_any"}, map[string]bool{"/etc": true}},
		"empty hierarchy":  {map[string]string{sysextFile + "x": fits, "opt/": ""}, map[string]bool{"/opt": true}},
		"with os-release":  {map[string]string{sysextFile + "x": fits, "usr/lib/os-release": "ID=other"}, map[string]bool{"/usr": true}},
		"below etc":        {map[string]string{confextFile + "x": fits, "etc/nginx/a": ""}, map[string]bool{"/etc/nginx": true, "/etc/none": false, "/etcetera": false}},
		"link not reached": {map[string]string{sysextFile + "x": fits, "etc": " -> usr"}, map[string]bool{"/usr": true, "/etc": false}},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			write(t, top+"/x", c.files)
			o, err := Open(context.Background(), pick(t, dirRef(top+"/x")), debian())
			must(t, err)
			defer o.Close()
			checkLayers(t, o, c.want)
		})
	}
}

func TestLayerErrors(t *testing.T) {
	nsmounttest.Root(t)
	top := t.TempDir()
	write(t, top, map[string]string{
		"x/" + sysextFile + "x": "ID=_any", "x/opt": " -> usr", "x/srv": " -> /usr", "x/file": "", "x/a/b": " -> ..",
	})
	o, err := Open(context.Background(), pick(t, dirRef(top+"/x")), debian())
	must(t, err)
	defer o.Close()
	for hierarchy, want := range map[string]string{
		"/opt":     `take a layer of extension "TOP/x": /opt in "TOP/x" is a symbolic link, or lies beyond one: make it a directory`,
		"/srv":     "/srv in",
		"/opt/lib": "/opt/lib in",
		"/file":    `/file in "TOP/x" is no directory`,
		"/file/x":  `/file/x in "TOP/x" is no directory`,
		"/a/b/usr": "is a symbolic link",
	} {
		f, ok, err := o.Layer(hierarchy)
		if f != nil || ok || err == nil || !strings.Contains(err.Error(), strings.ReplaceAll(want, "TOP", top)) {
			t.Errorf("Layer(%q) = %v, %v, %v; want %q", hierarchy, f, ok, err, want)
		}
	}
}

// TestOpenRefuses has the bad extensions; each is refused with what is wrong.
func TestOpenRefuses(t *testing.T) {
	nsmounttest.Root(t)
	for name, c := range map[string]struct {
		files map[string]string
		setup func(dir string) error
		field string // of a mismatch
		want  string
	}{
		"no release file": {map[string]string{"usr/bin/a": ""}, nil, "",
			`open extension "-TOP/web_1": "web_1" has no release file: it needs /usr/lib/extension-release.d/extension-release.web_1 (a sysext) ` +
				`or /etc/extension-release.d/extension-release.web_1 (a confext)`},
		"other name": {map[string]string{sysextFile + "other": "ID=debian"}, nil, "",
			`"web_1" has no release file; "/usr/lib/extension-release.d/extension-release.other" has another name`},
		"two": {map[string]string{sysextFile + "a": "ID=debian", sysextFile + "b": "ID=debian"}, func(dir string) error {
			return errors.Join(unix.Setxattr(dir+"/"+sysextFile+"a", "user.extension-release.strict", []byte("0"), 0),
				unix.Setxattr(dir+"/"+sysextFile+"b", "user.extension-release.strict", []byte("0"), 0))
		}, "", "two release files"},
		"empty": {map[string]string{sysextFile + "web": "\n"}, nil, "", "has no fields"},
		"ID": {map[string]string{sysextFile + "web": "ID=fedora\nVERSION_ID=13"}, nil, "ID",
			`match extension "-TOP/web_1": "web_1" does not fit: /usr/lib/extension-release.d/extension-release.web has ID="fedora", ` +
				`and the service root's /etc/os-release has "debian": use one made for this system, or set ID=_any in it if it fits everywhere`},
		"VERSION_ID":   {map[string]string{sysextFile + "web": "ID=debian\nVERSION_ID=12"}, nil, "VERSION_ID", `VERSION_ID="12"`},
		"ARCHITECTURE": {map[string]string{sysextFile + "web": "ID=debian\nVERSION_ID=13\nARCHITECTURE=arm64"}, nil, "ARCHITECTURE", `ARCHITECTURE="arm64", and x86-64 is wanted`},
		"LEVEL":        {map[string]string{sysextFile + "web": "ID=debian\nSYSEXT_LEVEL=2"}, nil, "VERSION_ID", "has no VERSION_ID="},
		"one of two": {map[string]string{sysextFile + "web": "ID=_any", confextFile + "web": "ID=debian\nVERSION_ID=12"}, nil, "VERSION_ID",
			"/etc/extension-release.d/extension-release.web has"},
		"link out of the tree": {map[string]string{sysextFile + "web_1": " -> /etc/os-release"}, nil, "", `symbolic link to "/etc/os-release", which is not in the extension`},
		"link up and out":      {map[string]string{sysextFile + "web_1": " -> ../../../../../../../../etc/os-release"}, nil, "", "which is not in the extension"},
		"fifo":                 {map[string]string{"usr/lib/extension-release.d/": ""}, func(dir string) error { return unix.Mkfifo(dir+"/"+sysextFile+"web_1", 0o666) }, "", "it is a fifo"},
		"device": {map[string]string{"usr/lib/extension-release.d/": ""}, func(dir string) error {
			return unix.Mknod(dir+"/"+sysextFile+"web_1", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5)))
		}, "", "it is a device"},
		"1 GiB":       {map[string]string{sysextFile + "web_1": ""}, func(dir string) error { return os.Truncate(dir+"/"+sysextFile+"web_1", 1<<30) }, "", "it has 1073741824 bytes"},
		"no text":     {map[string]string{sysextFile + "web_1": "\x7fELF\x00"}, nil, "", "this is not a text file"},
		"a directory": {map[string]string{sysextFile + "web_1/": ""}, nil, "", "it is a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			dir := top + "/web_1"
			write(t, dir, c.files)
			if c.setup != nil {
				must(t, c.setup(dir))
			}
			// "-" excuses what is missing, and none of these.
			o, err := Open(context.Background(), pick(t, optional(dirRef(dir))), debian())
			var typed *Error
			if o != nil || !errors.As(err, &typed) || !strings.Contains(err.Error(), strings.ReplaceAll(c.want, "TOP", top)) {
				t.Fatalf("Open gives %v,\n%v, want\n%s", o, err, c.want)
			}
			var m *release.MismatchError
			if c.field != "" && (!errors.As(err, &m) || m.Field != c.field) {
				t.Errorf("%v is no mismatch of %s", err, c.field)
			}
			none := strings.Contains(c.want, "no release file") || strings.Contains(c.want, "which is not in the extension")
			if none != errors.Is(err, release.ErrNoFile) {
				t.Errorf("%v: ErrNoFile: %v, want %v", err, !none, none)
			}
		})
	}
}

func TestOpenReplaced(t *testing.T) {
	nsmounttest.Root(t)
	top := t.TempDir()
	write(t, top, map[string]string{"x/" + sysextFile + "x": "ID=_any", "y/" + sysextFile + "x": "ID=_any", "a.raw": "1", "b.raw": "2", "c.raw": "3"})
	dir, file, fifo := pick(t, dirRef(top+"/x")), pick(t, imageRef(top+"/a.raw")), pick(t, imageRef(top+"/c.raw"))
	must(t, unix.Renameat2(unix.AT_FDCWD, top+"/x", unix.AT_FDCWD, top+"/y", unix.RENAME_EXCHANGE))
	must(t, os.Rename(top+"/b.raw", top+"/a.raw"))
	must(t, os.Remove(top+"/c.raw"))
	must(t, unix.Mkfifo(top+"/c.raw", 0o600))
	for _, p := range []*Picked{dir, file, fifo} {
		if o, err := Open(context.Background(), p, debian()); o != nil || !errors.Is(err, errReplaced) {
			t.Errorf("%s: %v, %v", p.Path, o, err)
		}
	}
	must(t, os.RemoveAll(top+"/x"))
	if o, err := Open(context.Background(), dir, debian()); o != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("gone: %v, %v", o, err)
	}
}

func build(t *testing.T, command string, args ...string) {
	t.Helper()
	if out, err := exec.Command(command, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

func TestOpenImage(t *testing.T) {
	nsmounttest.Root(t)
	top := t.TempDir()
	write(t, top, map[string]string{"tree/" + sysextFile + "web": "ID=debian\nVERSION_ID=13\n", "tree/usr/bin/web": "x", "tree/etc/a": "", "tree/opt": " -> usr"})
	build(t, "mkfs.erofs", "--quiet", top+"/web.v_1", top+"/tree")
	must(t, os.Mkdir(top+"/web.v", 0o755))
	must(t, os.Rename(top+"/web.v_1", top+"/web.v/web_1.raw"))
	build(t, "mksquashfs", top+"/tree", top+"/web.v/web_2_x86-64.raw", "-quiet", "-no-progress")

	for version, fstype := range map[string]string{"1": "erofs", "2": "squashfs"} {
		p, err := Pick(imageRef(top+"/web.v/web___.raw"), PickOptions{Arch: "x86-64", Refused: func(identity string) (string, bool) {
			newest := pick(t, imageRef(top+"/web.v"))
			return "was left", version == "1" && identity == newest.Identity
		}})
		must(t, err)
		o, err := Open(context.Background(), p, debian())
		must(t, err)
		if o.Version != version || o.Info.FSType != fstype || o.Release.File != "/"+sysextFile+"web" {
			t.Errorf("Open gives version %s, %+v, %+v", o.Version, o.Info, o.Release)
		}
		checkLayers(t, o, map[string]bool{"/usr": true, "/etc": false, "/srv": false})
		if _, ok, err := o.Layer("/opt"); ok || err == nil || !strings.Contains(err.Error(), "is a symbolic link") {
			t.Errorf("Layer(/opt) = %v, %v", ok, err)
		}
		if err := os.WriteFile(o.Tree.Path()+"/usr/new", nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("write to the image: %v", err)
		}
		must(t, o.Close())
	}
}

func TestOpenImageRefuses(t *testing.T) {
	nsmounttest.Root(t)
	top := t.TempDir()
	write(t, top, map[string]string{
		"fits/" + sysextFile + "web": "ID=debian\nVERSION_ID=13\n", "bare/usr/a": "", "old/" + confextFile + "web": "ID=debian\nVERSION_ID=12\n",
		"named/" + sysextFile + "other": "ID=debian\nVERSION_ID=13\n", "empty.raw": "", "random.raw": strings.Repeat("\x93\x5a", 5000),
	})
	for _, name := range []string{"fits", "bare", "old", "named"} {
		build(t, "mkfs.erofs", "--quiet", top+"/"+name+".img", top+"/"+name)
		must(t, os.MkdirAll(top+"/"+name+".d", 0o755))
		must(t, os.Rename(top+"/"+name+".img", top+"/"+name+".d/web.raw"))
	}
	write(t, top, map[string]string{"sidecar.d/web.raw": " -> ../fits.d/web.raw", "sidecar.d/web.roothash": "00"})

	signed, err := policy.Parse("root=signed")
	must(t, err)
	withPolicy, withSignature := debian(), debian()
	withPolicy.Policy, withSignature.RequireSignature = signed, true
	for name, c := range map[string]struct {
		path    string
		options OpenOptions
		relax   bool
		is      error
		want    string
	}{
		"no release file":         {"bare.d/web.raw", debian(), false, release.ErrNoFile, `"web" has no release file`},
		"mismatch":                {"old.d/web.raw", debian(), false, nil, `VERSION_ID="12"`},
		"other name":              {"named.d/web.raw", debian(), false, release.ErrNoFile, "has another name"},
		"no release file, though": {"bare.d/web.raw", debian(), true, release.ErrNoFile, "has no release file"},
		"policy":                  {"fits.d/web.raw", withPolicy, false, policy.ErrDenied, "root=signed"},
		"signature":               {"fits.d/web.raw", withSignature, false, policy.ErrDenied, "RequireSignature=yes"},
		"sidecar":                 {"sidecar.d/web.raw", debian(), false, nil, "web.roothash"},
		"empty":                   {"empty.raw", debian(), false, nil, "empty.raw"},
		"random":                  {"random.raw", debian(), false, nil, "random.raw"},
	} {
		t.Run(name, func(t *testing.T) {
			ref := optional(imageRef(top + "/" + c.path))
			ref.Relax = c.relax
			o, err := Open(context.Background(), pick(t, ref), c.options)
			if o != nil || err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("Open gives %v, %v; want %q", o, err, c.want)
			}
		})
	}
	// The one that relaxing the name lets in.
	ref := imageRef(top + "/named.d/web.raw")
	ref.Relax = true
	o, err := Open(context.Background(), pick(t, ref), debian())
	must(t, err)
	must(t, o.Close())
	runtime.GC()
}

// BenchmarkPick and BenchmarkOpen are of one directory of 100 files in a ".v/".
func BenchmarkPick(b *testing.B) {
	ref := benchmarkTree(b)
	for b.Loop() {
		if _, err := Pick(ref, PickOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	nsmounttest.Root(b)
	p := pick(b, benchmarkTree(b))
	for b.Loop() {
		o, err := Open(context.Background(), p, debian())
		if err != nil {
			b.Fatal(err)
		}
		_ = o.Close()
	}
}

func benchmarkTree(b *testing.B) settings.Ref {
	b.Helper()
	top := b.TempDir()
	for v := range 3 {
		dir := fmt.Sprintf("%s/web.v/web_%d", top, v)
		write(b, dir, map[string]string{sysextFile + "web": "ID=_any\n"})
		for i := range 100 {
			write(b, dir, map[string]string{fmt.Sprintf("usr/share/web/%d/page", i): ""})
		}
	}
	return dirRef(top + "/web.v")
}

// TestRenamedMeanwhile: what was renamed after the pick, since another service took a
// try of it, is opened, and found again, under its new name.
func TestRenamedMeanwhile(t *testing.T) {
	nsmounttest.Root(t)
	top := t.TempDir()
	write(t, top, map[string]string{"web.v/web_1+3/" + sysextFile + "web": "ID=_any\n"})
	p := pick(t, dirRef(top+"/web.v"))
	must(t, os.Rename(top+"/web.v/web_1+3", top+"/web.v/web_1+2-1"))
	again, err := PickAgain(p.Ref, p.Path, p.Identity)
	must(t, err)
	if again.Path != top+"/web.v/web_1+2-1" || again.Entry == nil || again.Ref.Path != p.Ref.Path {
		t.Errorf("picked again: %+v", again)
	}
	if _, err := PickAgain(p.Ref, p.Path, "dir:other"); !errors.Is(err, ErrOther) {
		t.Errorf("another thing: %v", err)
	}
	o, err := Open(context.Background(), p, debian())
	must(t, err)
	if o.Path != again.Path {
		t.Errorf("opened %q", o.Path)
	}
	must(t, o.Close())
	must(t, os.RemoveAll(again.Path))
	if _, err := PickAgain(p.Ref, p.Path, p.Identity); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("gone: %v", err)
	}
	if _, err := Open(context.Background(), again, debian()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open what is gone: %v", err)
	}
}
