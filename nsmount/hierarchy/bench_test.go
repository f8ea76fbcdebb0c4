package hierarchy

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/nsmounttest"
)

var pairs = flag.Bool("pairs", false, "print what each round of BenchmarkExchange took: ours, then the bare system calls, in ns")

// BenchmarkExchange stages and exchanges one hierarchy of one layer, and makes
// the same exchange by the system calls that it takes, in turn.
func BenchmarkExchange(b *testing.B) {
	f := newFixture(b, nsmounttest.Options{}, nil)
	f.exchange("L1")
	v, err := f.take("/etc")
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	dir, err := os.OpenFile(f.dir+"/L2", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer dir.Close()
	layer, err := nsmount.CloneDir(dir, false, nsmount.AttrReadOnly)
	if err != nil {
		b.Fatal(err)
	}
	defer layer.Close()
	wanted := []Wanted{{Layers: []*os.File{layer.File()}, Owners: []*nsmount.Tree{layer}, Source: Source{Generation: 2, Serial: 2, Name: "bench"}}}
	b.ResetTimer()
	var ours, bare time.Duration
	for range b.N {
		var one, other time.Duration
		// Both on the thread that is in the namespace: a reload goes there once for
		// all hierarchies.
		f.run(func() error {
			began := time.Now()
			staged, err := Stage(b.Context(), v, wanted, false)
			if err != nil {
				return err
			}
			if err := errors.Join(staged[0].Exchange(), staged[0].Close()); err != nil {
				return err
			}
			one = time.Since(began)
			began = time.Now()
			err = exchangeBare(int(layer.File().Fd()), int(v.Surveys[0].Base.File().Fd()))
			other = time.Since(began)
			return err
		})
		ours, bare = ours+one, bare+other
		if *pairs {
			fmt.Printf("pair %d %d\n", one.Nanoseconds(), other.Nanoseconds())
		}
	}
	b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N), "ours-ns/op")
	b.ReportMetric(float64(bare.Nanoseconds())/float64(b.N), "bare-ns/op")
}

// exchangeBare is what the kernel has to be asked for.
func exchangeBare(layer, base int) error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	for _, o := range [][2]string{
		{"source", "bare"}, {"redirect_dir", "nofollow"}, {"metacopy", "off"}, {"index", "off"}, {"xino", "off"},
		{"lowerdir+", "/proc/self/fd/" + strconv.Itoa(layer)}, {"lowerdir+", "/proc/self/fd/" + strconv.Itoa(base)},
	} {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return err
		}
	}
	if err := unix.FsconfigSetFlag(fs, "ro"); err != nil {
		return err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return err
	}
	tree, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return err
	}
	if err := unix.Close(fs); err != nil {
		return err
	}
	top, err := unix.Open("/etc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	const beneath = 0x200 // MOVE_MOUNT_BENEATH
	if err := unix.MoveMount(tree, "", top, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH|beneath); err != nil {
		return err
	}
	if err := unix.Fchdir(top); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	if err := unix.Close(top); err != nil {
		return err
	}
	return unix.Close(tree)
}
