package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// plan compares a plan of a new version, of 100,000 files of which 1,000 are
// others, with a find that lists both versions.
func plan(k *kit) []row {
	const files, changed = 100_000, 1000
	dir, state := k.c.TempDir(), k.stateDir()
	conf := dir + "/conf.v"
	for version := 1; version <= 2; version++ {
		k.tree(fmt.Sprintf("%s/.conf_%d", conf, version), files, func(i int) string {
			if version == 2 && i%(files/changed) == 0 {
				return "another\n"
			}
			return "one\n"
		})
	}
	k.c.Rename(conf+"/.conf_1", conf+"/conf_1")
	k.byHand("plan", state, []string{conf})
	k.c.Rename(conf+"/.conf_2", conf+"/conf_2")
	out := k.c.Must("extexec", "plan", "--state-dir", state, "plan")
	if n := strings.Count(out, "\n  M  "); n != changed {
		k.t.Fatalf("the plan has %d changed files, want %d", n, changed)
	}
	s := k.inTurn(func() float64 { return k.run("/usr/bin/extexec", "plan", "--state-dir", state, "plan") },
		func() float64 { return k.run("/usr/bin/find", conf+"/conf_1", conf+"/conf_2", "-ls") })
	return []row{ratio{a: s[0], b: s[1]}.row("plan, 1,000 changed of 100,000 files, warm / find -ls over the same two trees", 1,
		fmt.Sprintf("plan %s, find %s", ms(s[0]), ms(s[1])))}
}

// tree makes a confext directory of many files in directories of 100, all of one
// time.
func (k *kit) tree(dir string, files int, text func(i int) string) {
	k.t.Helper()
	when := time.Unix(1e9, 0)
	k.inside(func() error {
		write := func(path, text string) error {
			path = filepath.Join(dir, "etc", path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				return err
			}
			return os.Chtimes(path, when, when)
		}
		for i := range files {
			if err := write(fmt.Sprintf("bench.plan/%02d/%02d/file-%06d.conf", i/10_000, i/100%100, i), text(i)); err != nil {
				return err
			}
		}
		return write("extension-release.d/extension-release.conf", "ID=_any\n")
	})
}
