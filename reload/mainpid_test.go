package reload

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/extexec/extexec/nsmount/nsmounttest"
)

// TestMainPIDOfAnother gives a reload by name the process of something else:
// nothing is put over what that sees.
func TestMainPIDOfAnother(t *testing.T) {
	b := newBed(t)
	b.start()
	b.install("2")
	other := nsmounttest.Start(t, nsmounttest.Options{})
	t.Setenv("MAINPID", strconv.Itoa(other.PID()))
	_, err := b.reload(Options{})
	var f *Failure
	if !errors.As(err, &f) || f.Left != Unchanged || !strings.Contains(err.Error(), "is $MAINPID out of date?") {
		t.Errorf("error %v, want one that names $MAINPID", err)
	}
	if m := other.Table("extexec:"); len(m) != 0 {
		t.Errorf("the other service got %q", m)
	}
	b.want("1")
	t.Setenv("MAINPID", strconv.Itoa(b.svc.PID()))
	if _, err := b.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	b.want("2")
	b.whole()
}
