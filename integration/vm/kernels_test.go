package vm

import (
	"testing"
	"time"

	"github.com/extexec/extexec/integration/rig"
)

// limit is for a machine that hangs; on a machine with other work all is slow.
const limit = 10 * time.Minute

// whole is what has tests that depend on the kernel. Here is said which of them do not run
// in a machine, or skip themselves on a kernel; whatever else is skipped is a failure.
var whole = []Tests{
	{Package: "./nsmount"},
	{
		Package: "./nsmount/hierarchy",
		LeftOut: map[string]string{
			"TestNamespaceFull":     "100,000 mounts take minutes in an emulator",
			"TestHiddenStaysHidden": "thousands of exchanges do; TestCarriedKinds, TestRehearse and TestByHand look at what is hidden, too",
			"TestMountStorm":        "so do its 60 exchanges against a storm",
		},
		Skipped: map[Kernel]map[string]string{Linux6_1: {
			"TestIDMappedMount":                                     "a tmpfs takes no mapping of ids before 6.3",
			"TestInterrupted":                                       "without beneath an exchange is one system call",
			"TestInterruptedAndBack/exchanged":                      "as TestInterrupted",
			"TestInterruptedAndBack/on_top":                         "as TestInterrupted",
			"TestInterruptedAndBack/failed":                         "as TestInterrupted",
			"TestAttributesLeadNowhere/of_a_user/lowerdir=false":    "a tmpfs takes no attributes of users",
			"TestAttributesLeadNowhere/of_a_user/lowerdir=false#01": "a tmpfs takes no attributes of users",
		}},
	},
	{
		Package: "./reload", // the rest does the same to the kernel as these, or nothing
		Only: []string{
			"TestReload", "TestReloadCheck", "TestReloadVerify", "TestKillAtEveryStep", "TestRestoreAfterKill", "TestStartInChroot",
			"TestMountedWhileStarting", "TestRecordsWhatIsLive", "TestHierarchyIsDropped", "TestLinkLost", "TestSourceRemoved",
			"TestRepair", // its last case is another mount namespace
			// Not TestElsewhere: its hammers take minutes in an emulator, and the rest looks at the same places.
			"TestElsewhereCarries", "TestElsewhereTakenBack", "TestElsewhereAtEveryStep", "TestElsewhereOwnThing", "TestElsewhereNoLayer",
		},
		Skipped: map[Kernel]map[string]string{Linux6_1: {"TestRepair/half_exchanged": "without beneath an exchange is one system call"}},
	},
	{Package: "./reload/recorded"}, // ids of namespaces are inode numbers before 6.11
	{
		Package:  "./integration/vm/byhand",
		LeftOut:  map[string]string{"TestMemoryMax": "the machine with systemd has one with MemoryMax= itself"},
		Commands: map[string]string{"extexec": "./cmd/extexec", "hammer": "./demo/hammer"},
	},
	{
		// What the kernel verifies; the rest runs beside the code.
		Package: "./image",
		LeftOut: notVerity,
		Skipped: map[Kernel]map[string]string{
			Linux6_1:  {"TestKernelKeyring": "the keyring .dm-verity is there from Linux 7.0 on"},
			Linux6_12: {"TestKernelKeyring": "the keyring .dm-verity is there from Linux 7.0 on"},
		},
	},
}

// notVerity are the tests of ./image that have nothing to do with a device mapper.
var notVerity = map[string]string{
	"TestBare": "no hash tree", "TestDisk": "no hash tree", "TestTrees": "no hash tree", "TestUsrHidesUsr": "no hash tree",
	"TestTogether": "no hash tree", "TestBackings": "no hash tree", "TestLoop": "no hash tree", "TestOptions": "no hash tree",
	"TestNoUsrDirectory": "no hash tree", "TestNoLoopDevices": "no hash tree", "TestLosetupSees": "no hash tree",
	"TestRefusedByKernel": "no hash tree", "TestRefusedContent": "no hash tree",
	"TestReplaced": "10,000 images take minutes in an emulator", "TestVerified": "it makes copies", "TestRefusedVerity": "it makes copies",
	"TestFlippedBits": "it makes copies", "TestBothTables": "it makes copies", "TestPolicy": "it makes copies",
	"TestCopyMax": "it makes copies", "TestCopyIsSealed": "it makes copies", "TestShrinks": "it makes copies",
	"TestHostileContent": "it makes copies", "TestRefusedSignatures": "it makes copies", "TestUpstreamPolicies": "it makes copies", "TestSeal": "it makes a copy",
}

// TestKernels runs the tests of what depends on the kernel on each of the kernels, side
// by side.
func TestKernels(t *testing.T) {
	rig.RequireRoot(t)
	if err := Prepare(Kernels()); err != nil {
		t.Fatal(err)
	}
	suite, err := Compile(t.TempDir(), whole)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Kernels() {
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			suite.Run(t, Config{Kernel: k}, limit)
		})
	}
}
