//go:build amd64

package crash

import (
	"flag"
	"runtime"
	"testing"

	"github.com/extexec/extexec/nsmount/nsmounttest"
)

var (
	all  = flag.Bool("all", false, "strike every system call, not a sample (minutes)")
	only = flag.Int("at", 0, "strike this one call alone, or the last")
)

func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) { nsmounttest.Main(m) }
