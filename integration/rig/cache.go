package rig

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed mkroot.sh
var mkrootScript []byte

// keepUnused is how long a root that no run asked for stays in the cache.
const keepUnused = 45 * 24 * time.Hour

// buildsAtOnce bounds the bootstraps that run side by side: they are bound by dpkg, that is by one core each.
const buildsAtOnce = 2

// cacheDir is the folder, outside of the source tree, that holds the roots and the running containers.
func cacheDir() (string, error) {
	base, err := os.UserCacheDir() // honours $XDG_CACHE_HOME
	if err != nil {
		// A build machine may start its jobs without HOME.
		base = "/var/cache"
	}
	dir := filepath.Join(base, "extexec-rig")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make rig cache: %w", err)
	}
	return dir, nil
}

// key names one build of a suite's root: it changes with the recipe, and every month, for a moving suite
// and for security updates.
func (s Suite) key(now time.Time) string {
	h := sha256.New()
	fmt.Fprintln(h, s.Name, s.packages())
	h.Write(mkrootScript)
	return s.String() + "-" + now.UTC().Format("2006-01") + "-" + hex.EncodeToString(h.Sum(nil))[:12]
}

// Root returns the path of the suite's root tarball and builds it when the cache has none (20 to 60 s, root
// and a Debian mirror needed).
func Root(s Suite) (string, error) {
	path, err := Cached(s.key(time.Now())+".tar", func(tarball string) error { return buildRoot(s, tarball) })
	if err != nil {
		return "", fmt.Errorf("%s root: %w", s, err)
	}
	return path, nil
}

// Cached returns the path of a file or directory of the cache, and has it built when it is not there. One
// process builds it; the others wait. build must leave nothing at the path when it fails.
func Cached(name string, build func(path string) error) (string, error) {
	dir, err := cacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	if cached(path) {
		return path, nil
	}
	lock, err := lockFile(path+".lock", unix.LOCK_EX)
	if err != nil {
		return "", fmt.Errorf("lock rig cache: %w", err)
	}
	defer lock.Close()
	if cached(path) { // another run built it meanwhile
		return path, nil
	}
	if err := build(path); err != nil {
		return "", fmt.Errorf("build: %w", err)
	}
	return path, nil
}

// cached says whether the path is there, and marks it as used.
func cached(path string) bool {
	now := time.Now()
	return os.Chtimes(path, now, now) == nil
}

// prepareRoots builds every missing root, two at a time.
func prepareRoots(suites []Suite) error {
	slots := make(chan struct{}, buildsAtOnce)
	errs := make([]error, len(suites))
	var wg sync.WaitGroup
	for i, s := range suites {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			_, errs[i] = Root(s)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// buildRoot runs mkroot.sh; its output shows only when it fails.
func buildRoot(s Suite, tarball string) error {
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		return errors.New("mmdebstrap is not installed: run \"make test\" once, or apt-get install mmdebstrap")
	}
	mirror, err := Mirror()
	if err != nil {
		return err
	}
	start := time.Now()
	progress("building the %s root (once a month; about half a minute)", s)
	ctx, cancel := context.WithTimeout(context.Background(), 12*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-s", s.Name, tarball, mirror, strings.Join(s.packages(), ","))
	cmd.Stdin = bytes.NewReader(mkrootScript)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("mmdebstrap: %w\n%s", err, tail(out, 30))
	}
	st, err := os.Stat(tarball)
	if err != nil {
		return err
	}
	progress("built the %s root: %d MiB in %s", s, st.Size()>>20, time.Since(start).Round(time.Second))
	return nil
}

var debianRepo = regexp.MustCompile(`^\w[\w+.-]*:\S*/debian/?$`)

// Mirror is the Debian mirror of the machine's own apt sources; EXTEXEC_RIG_MIRROR names another.
func Mirror() (string, error) {
	if m := os.Getenv("EXTEXEC_RIG_MIRROR"); m != "" {
		return m, nil
	}
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI)").Output()
	if err != nil {
		return "", fmt.Errorf("read apt sources: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if uri := strings.TrimSpace(line); debianRepo.MatchString(uri) {
			return uri, nil
		}
	}
	return "", errors.New("read apt sources: no Debian mirror among them: set EXTEXEC_RIG_MIRROR to one")
}

// pruneCache removes what nothing has used for a while.
func pruneCache(dir string, now time.Time) error {
	roots, err := filepath.Glob(filepath.Join(dir, "*.tar*"))
	if err != nil {
		return err
	}
	machines, err := filepath.Glob(filepath.Join(dir, "vm-*"))
	if err != nil {
		return err
	}
	for _, f := range append(roots, machines...) {
		st, err := os.Stat(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && now.Sub(st.ModTime()) > keepUnused {
			err = os.RemoveAll(f)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("prune rig cache: %w", err)
		}
	}
	return nil
}

// lockFile opens path, creating it, and takes a flock; how is LOCK_EX, with LOCK_NB or without. Closing the
// file gives the lock back.
func lockFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "flock", Path: path, Err: err}
	}
	return f, nil
}

// progress tells a person what takes time.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "rig: "+format+"\n", args...)
}

// tail returns the last n lines of b.
func tail(b []byte, n int) string {
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
