package arch

import (
	"strings"
	"testing"
	"testing/fstest"
)

// Every rule finds what it is there for: each case is a module with one fault.
func TestRulesFindFaults(t *testing.T) {
	long := "package state\nfunc f() {\n" + strings.Repeat("\t_ = 1\n", maxLines) + "}\n"
	for _, c := range []struct {
		name, file, source string
		rule               func(*tree) []string
		want               string
	}{
		{"arrow", "reload/state/x.go", "package state\nimport _ \"github.com/extexec/extexec/nsmount\"\n", arrows, "reload/state imports nsmount"},
		{"backwards", "nsmount/x.go", "package nsmount\nimport _ \"github.com/extexec/extexec/reload\"\n", arrows, "nsmount imports reload"},
		{"unknown package", "surprise/x.go", "package surprise\n", arrows, "surprise: not in the table"},
		{"test helper", "cmd/extexec/x.go", "package main\nimport _ \"github.com/extexec/extexec/nsmount/nsmounttest\"\n", arrows, "that is for tests"},
		{"bus", "service/x.go", "package service\nimport _ \"github.com/godbus/dbus/v5\"\n", foreignImports, "D-Bus has one door"},
		{"libcontainer", "reload/x.go", "package reload\nimport _ \"github.com/opencontainers/runc/libcontainer\"\n", foreignImports, "container runtime"},
		{"std only", "unitfile/x.go", "package unitfile\nimport _ \"golang.org/x/sys/unix\"\n", foreignImports, "standard library only"},
		{"pure", "image/gpt/x.go", "package gpt\nimport _ \"os\"\n", foreignImports, "bytes"},
		{"mount", "service/x.go", "package service\nimport \"golang.org/x/sys/unix\"\nvar _ = unix.Mount\n", kernelCalls, "service/x.go:3:9: Mount"},
		{"mount renamed", "service/x.go", "package service\nimport u \"golang.org/x/sys/unix\"\nvar _ = u.Setns\n", kernelCalls, "Setns"},
		{"mount in a test", "service/x_test.go", "package service\nimport \"syscall\"\nvar _ = syscall.SYS_UNSHARE\n", kernelCalls, "SYS_UNSHARE"},
		{"clone flags", "service/x.go", "package service\nimport \"syscall\"\nvar _ = syscall.SysProcAttr{Cloneflags: 1}\n", kernelCalls, "Cloneflags"},
		{"no package comment", "image/x.go", "package image\n", packageComments, "image: the package comment"},

		{"name", "internal/util/x.go", "package util\n", packageNames, "says nothing"},
		{"length", "reload/state/x.go", long, functionLength, "func f has"},
		{"undocumented function", "image/x.go", "package image\nfunc F() {}\n", exportedDocs, "F has no"},
		{"undocumented method", "image/x.go", "package image\nfunc (t *T[X]) M() {}\n", exportedDocs, "M has no"},
		{"undocumented type", "image/x.go", "package image\ntype T int\n", exportedDocs, "T has no"},
		{"undocumented constant", "image/x.go", "package image\nconst (\n\t// A is one.\n\tA = 1\n\tB = 2\n)\n", exportedDocs, "B has no"},
		{"long main", "cmd/extexec/main.go", "package main\n" + strings.Repeat("\n", maxLines), shortMain, "main.go has"},
	} {
		found := c.rule(load(t, fstest.MapFS{c.file: {Data: []byte(c.source)}}))
		if len(found) != 1 || !strings.Contains(found[0], c.want) {
			t.Errorf("%s: found %q, want %q", c.name, found, c.want)
		}
	}
	two := load(t, fstest.MapFS{"image/a.go": {Data: []byte("// Package image.\npackage image\n")}, "image/b.go": {Data: []byte("package image\n")}})
	if found := packageComments(two); len(found) != 1 || !strings.Contains(found[0], "a.go") {
		t.Errorf("comment in one of two files: found %q", found)
	}
	far := load(t, fstest.MapFS{
		"reload/x.go":        {Data: []byte("package reload\nimport _ \"github.com/extexec/extexec/service\"\n")},
		"service/x.go":       {Data: []byte("package service\nimport _ \"github.com/extexec/extexec/units/manager\"\n")},
		"units/manager/x.go": {Data: []byte("package manager\n")},
	})
	if found := reloadNeedsNoBus(far); len(found) != 1 || !strings.Contains(found[0], "units/manager") {
		t.Errorf("bus behind service: found %q", found)
	}
}
