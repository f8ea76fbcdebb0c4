package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// A binary is a program of this module that every container has.
type binary struct {
	pkg    string // below the module
	target string // in the container
	env    string // name of the variable that may give a built one instead
}

var binaries = []binary{
	{pkg: "./cmd/extexec", target: "/usr/bin/extexec", env: "EXTEXEC_BINARY"},
	{pkg: "./integration/testservice", target: "/usr/bin/testservice"},
}

// build compiles the program into the run's directory, as releases are built, and returns its path.
func (r *run) build(b binary) (string, error) {
	if path := os.Getenv(b.env); path != "" {
		return path, nil
	}
	r.mu.Lock()
	build := r.built[b.pkg]
	if build == nil {
		build = sync.OnceValues(func() (string, error) { return goBuild(b.pkg, filepath.Join(r.dir, filepath.Base(b.target))) })
		r.built[b.pkg] = build
	}
	r.mu.Unlock()
	return build()
}

// Build compiles a program of this module as releases are built.
func Build(t testing.TB, pkg, out string) {
	t.Helper()
	if _, err := goBuild(pkg, out); err != nil {
		t.Fatal(err)
	}
}

func goBuild(pkg, out string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, tail(msg, 20))
	}
	return out, nil
}

// moduleRoot is the directory of go.mod, at or above the package directory that tests run in.
func moduleRoot() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == "/" {
			return "", fmt.Errorf("find module: no go.mod at or above %q: run the tests in the source tree", wd)
		}
	}
}

// installBinaries copies the programs into the root.
func (m *machine) installBinaries() error {
	for _, b := range binaries {
		built, err := m.run.build(b)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(built)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(m.rootDir(), b.target), data, 0o755); err != nil {
			return err
		}
	}
	return nil
}
