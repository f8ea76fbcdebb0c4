package integration

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// TestOracleVpick compares "extexec pick" with systemd-vpick. That came with 256; the one of 257 still differs
// from later ones in corners (secondary architectures, counters, types), so it is no oracle.
func TestOracleVpick(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		if c.SystemdVersion() < 260 {
			t.Logf("systemd-vpick of systemd %d is no oracle, or not there", c.SystemdVersion())
			return
		}
		dir := c.TempDir()
		create, queries := vpickCases(dir)
		c.Script(create)
		ours := vpickAnswers(c, "extexec pick", queries)
		oracle := vpickAnswers(c, "systemd-vpick", queries)
		for i, q := range queries {
			if ours[i] != oracle[i] {
				t.Errorf("pick %s\nextexec: %s\nsystemd: %s\nentries:\n%s", quoteAll(q), ours[i], oracle[i], c.Must("ls", "-lF", vpickDir(q)))
			}
		}
	})
}

// vpickAnswers asks every question in one process of a shell.
func vpickAnswers(c *rig.Container, tool string, queries [][]string) []string {
	var script strings.Builder
	for _, q := range queries {
		fmt.Fprintf(&script, "%s %s 2>/dev/null || echo failed; echo ==\n", tool, quoteAll(q))
	}
	return strings.Split(c.Script(script.String()), "==\n")
}

// vpickCases makes directories of entries, good and bad, and questions about them. Entries that lead nowhere
// are left out: there extexec differs on purpose.
func vpickCases(top string) (create string, queries [][]string) {
	r := newRand(2)
	var script strings.Builder
	fmt.Fprintf(&script, "set -e\nmkdir -p %[1]s/tree; echo >%[1]s/file\n", top)
	for i := range 40 {
		name := pick(r, "app.v", "app.raw.v")
		dir := fmt.Sprintf("%s/%d/%s", top, i, name)
		fmt.Fprintf(&script, "mkdir -p %s; cd %s\n", dir, dir)
		for range 1 + r.IntN(8) {
			script.WriteString(vpickEntry(r, top))
		}
		for range 5 {
			queries = append(queries, vpickQuery(r, dir))
		}
	}
	return script.String(), queries
}

func vpickEntry(r *rand.Rand, top string) string {
	name := pick(r, "app", "app", "app", "app", "app.raw", "ap", "other")
	name += pick(r, "_", "_", "_", "_", "", "-")
	name += pick(r, "1", "2", "10", "1.0", "1.0~rc1", "1.0^p1", "1-2", "2", "a", "v_1", "1 2", "")
	name += pick(r, "", "", "_x86-64", "_x86", "_arm64", "_bogus", "_")
	name += pick(r, "", "", "+0", "+1", "+2-1", "+0-3", "+03", "+x", "+1-", "+99999999999999999999")
	name += pick(r, ".raw", ".raw", "", ".img")
	make := pick(r, "echo >%[1]s", "echo >%[1]s", "mkdir %[1]s", "mkfifo %[1]s", "ln -s %[2]s/file %[1]s", "ln -s %[2]s/tree %[1]s")
	return fmt.Sprintf("[ -e %[1]s ] || "+make+"\n", quote(name), top)
}

func vpickQuery(r *rand.Rand, dir string) []string {
	var q []string
	add := func(flags ...string) { q = append(q, flags...) }
	if r.IntN(3) > 0 {
		add(pick(r, "--suffix=.raw", "--suffix=.raw", "-S.img"))
	}
	if r.IntN(2) > 0 {
		add("--type=" + pick(r, "reg", "reg", "dir", "dir", "fifo", "lnk"))
	}
	if r.IntN(4) == 0 {
		add("-A", pick(r, "x86-64", "x86", "arm64", "native", "secondary", "uname", "auto"))
	}
	if r.IntN(4) == 0 {
		add("-V", pick(r, "1", "1.0", "2", "10"))
	}
	if r.IntN(6) == 0 {
		add("-B", pick(r, "app", "other"))
	}
	if r.IntN(3) == 0 {
		add("--print=" + pick(r, "filename", "version", "type", "arch", "tries", "all"))
	}
	if r.IntN(4) == 0 {
		add("--resolve=" + pick(r, "yes", "no"))
	}
	return append(q, dir+pick(r, "", "", "", "/", "/app___.raw", "/app___", "/app___/", "/app_1.raw"))
}

// vpickDir is the versioned directory that a question is about.
func vpickDir(query []string) string {
	dir, _, _ := strings.Cut(query[len(query)-1], ".v")
	return dir + ".v"
}
