package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/extexec/extexec/image/gpt"
)

// makeFS has the file system made.
func (o *Options) makeFS(ctx context.Context, source, file string) error {
	algorithm, level, _ := strings.Cut(o.Compression, ":")
	for _, word := range []string{algorithm, level} {
		if strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return fmt.Errorf("%q names no compression: write zstd, or zstd:19 for a level", o.Compression)
		}
	}
	if o.Format == Squashfs {
		return o.run(ctx, "mksquashfs", "squashfs-tools", mksquashfs(source, file, algorithm, level, o.AllRoot))
	}
	return o.run(ctx, "mkfs.erofs", "erofs-utils", o.mkfsErofs(source, file, algorithm, level))
}

// mkfsErofs gives the arguments that systemd-repart gives, from the same seed.
func (o *Options) mkfsErofs(source, file, algorithm, level string) []string {
	uuid := o.Seed.uuid("file-system-uuid")
	if t, err := o.types(); o.Format == DDI && err == nil {
		uuid = Seed(o.Seed.partition(t.data)).uuid("file-system-uuid")
	}
	argv := []string{"-U", gpt.FromBytes(uuid).String(), "--quiet"}
	switch {
	case algorithm == "" || algorithm == "none":
	case level == "":
		argv = append(argv, "-z"+algorithm)
	default:
		argv = append(argv, "-z"+algorithm+","+level)
	}
	if o.AllRoot {
		argv = append(argv, "--all-root")
	}
	return append(argv, file, source)
}

func mksquashfs(source, file, algorithm, level string, allRoot bool) []string {
	// Without -exit-on-error a file that cannot be read becomes an empty one.
	argv := []string{source, file, "-noappend", "-quiet", "-no-progress", "-xattrs", "-exit-on-error"}
	switch algorithm {
	case "":
	case "none":
		argv = append(argv, "-noI", "-noD", "-noF", "-noX")
	default:
		argv = append(argv, "-comp", algorithm)
	}
	if level != "" {
		argv = append(argv, "-Xcompression-level", level)
	}
	if allRoot {
		argv = append(argv, "-all-root")
	}
	return argv
}

// run runs a program that makes a file system.
func (o *Options) run(ctx context.Context, name, pkg string, argv []string) error {
	path, err := find(name)
	if err != nil {
		return fmt.Errorf("%s is not installed: install the package %s (it is called so in Debian and in Fedora)", name, pkg)
	}
	cmd := exec.CommandContext(ctx, path, argv...)
	// SOURCE_DATE_EPOCH: both take it as the time of the build, and let no file be later.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TZ=UTC", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", o.Time.Unix())}
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s fails: %w%s", name, err, saying(out))
	}
	return nil
}

// find looks for a program; those that make file systems are often not in a user's PATH.
func find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil || errors.Is(err, exec.ErrDot) {
		return path, err
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

// saying is what a program said last: the rest is progress, or help.
func saying(out []byte) string {
	lines := bytes.Split(bytes.TrimSpace(out), []byte{'\n'})
	for _, line := range lines {
		if l := strings.ToLower(string(line)); strings.Contains(l, "error") || strings.Contains(l, "fatal") || strings.Contains(l, "fail") {
			return fmt.Sprintf(": %.200s", bytes.TrimSpace(line))
		}
	}
	if last := lines[len(lines)-1]; len(last) > 0 {
		return fmt.Sprintf(": %.200s", bytes.TrimSpace(last))
	}
	return ""
}
