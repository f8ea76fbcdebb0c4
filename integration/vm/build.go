package vm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Build compiles a command of this module, given as "./cmd/extexec", as a static binary.
func Build(out, pkg string) error {
	return gobuild("build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
}

// BuildTest compiles the tests of a package of this module.
func BuildTest(out, pkg string) error {
	return gobuild("test", "-c", "-ldflags", "-s -w", "-o", out, pkg)
}

func gobuild(verb string, args ...string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	cmd := exec.Command("go", append([]string{verb, "-buildvcs=false"}, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s %s: %w\n%s", verb, args[len(args)-1], err, msg)
	}
	return nil
}

// moduleRoot is the directory of go.mod, at or above the package directory that
// tests run in.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == "/" {
			return "", fmt.Errorf("find go.mod: run the tests in the source tree")
		}
	}
}
