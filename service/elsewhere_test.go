package service

import (
	"errors"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNamespacesWithFewFiles lets the descriptors run out at each call in turn: no
// namespace is taken for gone.
func TestNamespacesWithFewFiles(t *testing.T) {
	needRoot(t)
	f := start(t, os.Environ(), "unshare", "--mount")
	id, err := f.MountNS()
	if err != nil {
		t.Fatal(err)
	}
	for name, found := range map[string]func() (bool, error){
		"list": func() (bool, error) {
			all, err := MountNamespaces([]int{f.PID()}, "")
			return len(all) == 1 && all[0].ID == id && slices.Contains(all[0].PIDs, f.PID()), err
		},
		"open": func() (bool, error) {
			ns, err := MountNamespace{ID: id, PIDs: []int{f.PID()}}.Open()
			if err == nil {
				err = ns.Close()
			}
			return true, err
		},
		"mains": func() (bool, error) {
			pids, err := children(os.Getpid())
			return slices.Contains(pids, f.PID()), err
		},
	} {
		short := 0
		for more := range uint64(40) {
			ok, err := withFiles(t, more, found)
			switch {
			case errors.Is(err, unix.EMFILE):
				short++
			case err != nil:
				t.Errorf("%s, %d more files: %v, want EMFILE in it", name, more, err)
			case !ok:
				t.Errorf("%s, %d more files: the namespace is taken for gone", name, more)
			}
		}
		if short == 0 || short == 40 {
			t.Errorf("%s: descriptors ran out %d of 40 times", name, short)
		}
	}
}

// withFiles calls f when that many descriptors can be opened and no more.
func withFiles(t *testing.T, more uint64, f func() (bool, error)) (bool, error) {
	t.Helper()
	next, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	free := uint64(next.Fd()) // the lowest
	_ = next.Close()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: free + more, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
		}
	}()
	return f()
}
