package reload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
)

// planning plans, and checks that nothing has changed by that: no mount of the
// service, no file of the state.
func (b *bed) planning(o PlanOptions) (*PlanResult, error) {
	b.t.Helper()
	mounts, files := b.svc.Table(""), stateFiles(b.t, b.dir)
	o.Name, o.Dirs, o.Limits = "bed", b.dirs, nsmount.Probe()
	res, err := Plan(b.t.Context(), o)
	if d := cmp.Diff(mounts, b.svc.Table("")); d != "" {
		b.t.Errorf("the plan changed the mount table:\n%s", d)
	}
	if d := cmp.Diff(files, stateFiles(b.t, b.dir)); d != "" {
		b.t.Errorf("the plan changed the state:\n%s", d)
	}
	return res, err
}

func stateFiles(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.Contains(path, "/state") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func (b *bed) plan(o PlanOptions) *PlanResult {
	b.t.Helper()
	res, err := b.planning(o)
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

// files are the files of a plan, a line each, but for those of which only the time is
// another.
func files(r *PlanResult) (lines []string) {
	for _, h := range r.Hierarchies {
		for _, f := range h.Files {
			differs := slices.DeleteFunc(slices.Clone(f.Differs), func(s string) bool { return s == "mtime" })
			if f.Change == FileChanged && len(differs) == 0 {
				continue // every file that was written anew has another time
			}
			line := strings.TrimSpace(fmt.Sprintf("%s %s %s>%s %s", f.Change, f.Path, f.From, f.To, strings.Join(differs, ",")))
			if f.Behind != "" {
				line += " behind " + f.Behind
			}
			lines = append(lines, line)
		}
		for _, s := range h.Shadows {
			lines = append(lines, fmt.Sprintf("shadow %s %s>%v", s.Path, s.By, s.Hidden))
		}
	}
	return lines
}

const anyConf, anySys = "etc/extension-release.d/extension-release.conf", "usr/lib/extension-release.d/extension-release.sys"

func TestPlan(t *testing.T) {
	b := newBed(t)
	b.start()
	res := b.plan(PlanOptions{})
	if res.Changes() || res.Action == Exchange || res.Refs[0].State != RefSame || len(files(res)) > 0 || res.Generation.Number != 1 {
		t.Errorf("nothing has changed: %+v", res)
	}
	b.extension("conf", "2", map[string]string{anyConf: "ID=_any\n", "etc/extexec-new/a": "a\n", "etc/extexec-test": "12"})
	b.extension("sys", "2", map[string]string{anySys: "ID=_any\n", "usr/extexec-test": "22"})
	res = b.plan(PlanOptions{Diff: true})
	if !res.Changes() || res.Action != Exchange {
		t.Errorf("action %q", res.Action)
	}
	conf := res.Refs[0]
	if conf.State != RefReplaced || conf.Picked.Version != "2" || conf.Now.Version != "1" || len(conf.Candidates) != 2 || conf.Candidates[0].Why != "" || conf.Candidates[1].Why == "" {
		t.Errorf("the first ref: %+v", conf)
	}
	want := []string{
		"changed /usr/extexec-test sys_1>sys_2 size,content",
		"removed /opt/extexec-test sys_1>",
		"added /etc/extexec-new >conf_2", "added /etc/extexec-new/a >conf_2", "changed /etc/extexec-test conf_1>conf_2 size,content",
	}
	if d := cmp.Diff(want, files(res)); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
	etc := res.Hierarchies[2]
	if etc.Added != 2 || etc.Changed != 2 || etc.Removed != 0 || etc.Against != AgainstLayers || !slices.Equal(etc.Layers, []PlannedLayer{{"conf_2", b.dir + "/conf.v/conf_2"}}) {
		t.Errorf("/etc: %+v", etc)
	}
	text := "--- a/etc/extexec-test\n+++ b/etc/extexec-test\n@@ -1 +1 @@\n-1\n\\ No newline at end of file\n+12\n\\ No newline at end of file\n"
	if got := etc.Files[3].Diff; got != text {
		t.Errorf("diff %q", got)
	}
	if got := etc.Files[2].Diff; got != "--- /dev/null\n+++ b/etc/extexec-new/a\n@@ -0,0 +1 @@\n+a\n" {
		t.Errorf("diff of a new file %q", got)
	}
	if _, err := b.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	if res = b.plan(PlanOptions{}); res.Changes() || len(files(res)) > 0 || res.Generation.Number != 2 {
		t.Errorf("after the reload: %q, %v", res.Action, files(res))
	}
}

// TestPlanChecksum: what has the same size and the same time differs only for who
// reads it.
func TestPlanChecksum(t *testing.T) {
	b := newBed(t)
	b.start()
	b.install("2")
	for _, path := range []string{"conf.v/conf_%s/etc", "sys.v/sys_%s/usr", "sys.v/sys_%s/opt"} {
		var st unix.Stat_t
		if err := unix.Stat(b.dir+"/"+fmt.Sprintf(path, "1")+"/extexec-test", &st); err != nil {
			t.Fatal(err)
		}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, b.dir+"/"+fmt.Sprintf(path, "2")+"/extexec-test", []unix.Timespec{st.Atim, st.Mtim}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if got := files(b.plan(PlanOptions{})); len(got) > 0 {
		t.Errorf("by metadata: %q", got)
	}
	want := []string{"changed /usr/extexec-test sys_1>sys_2 content", "changed /opt/extexec-test sys_1>sys_2 content", "changed /etc/extexec-test conf_1>conf_2 content"}
	if d := cmp.Diff(want, files(b.plan(PlanOptions{Checksum: true}))); d != "" {
		t.Errorf("by content (-want +got):\n%s", d)
	}
}

// TestPlanOfWhatIsGone: the live version was removed, or edited in place. Then what
// the service sees is compared.
func TestPlanOfWhatIsGone(t *testing.T) {
	b := newBed(t)
	b.start()
	b.extension("conf", "2", map[string]string{anyConf: "ID=_any\n", "etc/extexec-test": "12"})
	if err := os.WriteFile(b.dir+"/conf.v/conf_1/etc/extexec-extra", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	res := b.plan(PlanOptions{})
	etc := res.Hierarchies[2]
	if etc.Against != AgainstLive || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "conf_1") {
		t.Errorf("against %q, warnings %q", etc.Against, res.Warnings)
	}
	want := []string{"changed /etc/extexec-test live>conf_2 size,content", "removed /etc/extexec-extra live>"}
	got := files(res)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
}

// TestPlanOfWhatWasRemoved: of a directory that was removed under an overlay the
// service sees nothing either.
func TestPlanOfWhatWasRemoved(t *testing.T) {
	b := newBed(t)
	b.start()
	b.extension("conf", "2", map[string]string{anyConf: "ID=_any\n", "etc/extexec-test": "12"})
	if err := os.RemoveAll(b.dir + "/conf.v/conf_1"); err != nil {
		t.Fatal(err)
	}
	res := b.plan(PlanOptions{})
	if etc := res.Hierarchies[2]; etc.Against != AgainstBase || !slices.Contains(files(res), "added /etc/extexec-test >conf_2") {
		t.Errorf("against %s: %q, warnings %q", etc.Against, files(res), res.Warnings)
	}
}

func TestPlanShadows(t *testing.T) {
	b := newBed(t)
	b.write("ExtensionDirectories=" + b.dir + "/top")
	for path, text := range map[string]string{"extension-release.d/extension-release.top": "ID=_any\n", "extexec-test": "top"} {
		if err := os.MkdirAll(filepath.Dir(b.dir+"/top/etc/"+path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(b.dir+"/top/etc/"+path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.start()
	res := b.plan(PlanOptions{})
	if d := cmp.Diff([]string{"shadow /etc/extexec-test top>[conf_1]"}, files(res)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	// The top one goes: what it hid is seen.
	b.write()
	res = b.plan(PlanOptions{})
	want := []string{"removed /etc/extension-release.d/extension-release.top top>", "changed /etc/extexec-test top>conf_1 size,content"}
	if d := cmp.Diff(want, files(res)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if n := len(res.Refs); n != 3 || res.Refs[2].State != RefGone || !res.Changes() {
		t.Errorf("refs %+v", res.Refs)
	}
}

// TestPlanFails: what a reload would refuse, a plan does, and tells what was found
// until then.
func TestPlanFails(t *testing.T) {
	b := newBed(t)
	b.start()
	b.extension("conf", "2", map[string]string{anyConf: "ID=debian\nVERSION_ID=0.1\n"})
	res, err := b.planning(PlanOptions{})
	if err == nil || !strings.Contains(err.Error(), `plan "bed"`) || !strings.Contains(err.Error(), "VERSION_ID") || len(res.Refs) != 2 || res.Refs[0].Picked.Version != "2" {
		t.Errorf("error %v, refs %+v", err, res.Refs)
	}
	injected := errors.New("injected")
	for _, step := range []string{"identify", "read", "find", "survey", "pick", "open", "stage", "look"} {
		o := PlanOptions{}
		o.Hook = func(point string) error {
			if point == "before "+step {
				return injected
			}
			return nil
		}
		if step != "look" {
			b.extension("conf", "3"+step, map[string]string{anyConf: "ID=_any\n", "etc/extexec-test": "3"})
		}
		if _, err := b.planning(o); !errors.Is(err, injected) {
			t.Errorf("before %s: %v", step, err)
		}
	}
	if _, err := Plan(t.Context(), PlanOptions{Options: Options{Name: "other", Dirs: b.dirs}}); err == nil || !strings.Contains(err.Error(), `plan "other.service"`) {
		t.Errorf("a name without a record: %v", err)
	}
	if _, err := os.Stat(b.dir + "/state/record/other.service"); err == nil {
		t.Error("the plan made a directory for it")
	}
}

// TestPlanOfAnInterruptedReload reports it and leaves it as it is.
func TestPlanOfAnInterruptedReload(t *testing.T) {
	b := newBed(t)
	b.start()
	b.install("2")
	cmd := child{Name: "bed", Dirs: b.dirs, Point: "after exchange", Limits: nsmount.Probe()}.command(t)
	if err := cmd.Run(); err == nil {
		t.Fatal("the child was not killed")
	}
	res := b.plan(PlanOptions{})
	if res.Action != Exchange || !slices.ContainsFunc(res.Warnings, func(w string) bool { return strings.Contains(w, "interrupted") }) {
		t.Errorf("action %q, warnings %q", res.Action, res.Warnings)
	}
	for _, h := range res.Hierarchies {
		// The version that was to come is what the service sees already.
		if h.Against != AgainstLive || len(h.Files) > 0 {
			t.Errorf("%s against %s: %+v", h.Path, h.Against, h.Files)
		}
	}
	u, err := b.dirs.Unit("bed")
	if err != nil {
		t.Fatal(err)
	}
	if r, err := u.Load(); err != nil || r.Pending == nil {
		t.Errorf("nothing is pending any more: %v", err)
	}
}

// TestPlanBehind: a change below a carried mount is none that the service sees.
func TestPlanBehind(t *testing.T) {
	b := newBed(t)
	b.start()
	if err := os.WriteFile(b.dir+"/mine", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.svc.Mount(b.dir+"/mine", "/etc/extexec-test", "", unix.MS_BIND, "")
	b.extension("conf", "2", map[string]string{anyConf: "ID=_any\n", "etc/extexec-test": "12"})
	want := []string{"changed /etc/extexec-test conf_1>conf_2 size,content behind /etc/extexec-test"}
	if d := cmp.Diff(want, files(b.plan(PlanOptions{}))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	// The same where what the service sees is compared.
	if err := os.WriteFile(b.dir+"/conf.v/conf_1/etc/extexec-extra", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want = []string{"removed /etc/extexec-extra live>", "changed /etc/extexec-test live>conf_2 size,content behind /etc/extexec-test"}
	if d := cmp.Diff(want, files(b.plan(PlanOptions{}))); d != "" {
		t.Errorf("compared with the live view (-want +got):\n%s", d)
	}
}

// TestPlanListsSome: beyond a bound, files are counted.
func TestPlanListsSome(t *testing.T) {
	b := newBed(t)
	b.start()
	b.extension("conf", "2", map[string]string{anyConf: "ID=_any\n", "etc/extexec-a": "", "etc/extexec-b": "", "etc/extexec-c": "", "etc/extexec-test": "1"})
	etc := b.plan(PlanOptions{MaxFiles: 2}).Hierarchies[2]
	if len(etc.Files) != 2 || etc.Added != 3 || etc.More != etc.Added+etc.Changed-2 {
		t.Errorf("%+v", etc)
	}
}
