package credential

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const webd = `Name:	we:bd
Umask:	0027
State:	S (sleeping)
Uid:	61184	61185	61186	61187
Gid:	100	101	102	103
Groups:	4 24 61184 
NStgid:	4711	12
NSpid:	4711	12
CapInh:	0000000000000400
CapPrm:	0000000000000c00
CapEff:	0000000000000400
CapBnd:	000001ffffffffff
CapAmb:	0000000000000400
NoNewPrivs:	1
Seccomp:	2
`

func TestParseStatus(t *testing.T) {
	got, err := ParseStatus([]byte(webd))
	if err != nil {
		t.Fatal(err)
	}
	want := Status{
		Credential: Credential{
			UID: 61184, EUID: 61185, SUID: 61186, GID: 100, EGID: 101, SGID: 102,
			Groups:      []uint32{4, 24, 61184},
			Inheritable: 0x400, Permitted: 0xc00, Effective: 0x400, Bounding: 0x1ffffffffff, Ambient: 0x400,
			NoNewPrivs: true,
		},
		Umask: 0o027,
		PIDs:  []int{4711, 12},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func TestParseStatusRefuses(t *testing.T) {
	for _, replace := range [][2]string{
		{"Uid:\t61184", "Uid:\t-1"},
		{"Uid:\t61184\t61185\t61186\t61187", "Uid:\t1"},
		{"Uid:", "Xid:"},
		{"CapAmb:", "Capamb:"},
		{"CapAmb:\t0000000000000400", "CapAmb:\t0000000000000400 1"},
		{"CapBnd:\t000001ffffffffff", "CapBnd:\t1000001ffffffffff"},
		{"Groups:\t4", "Groups:\tfour"},
		{"NSpid:\t4711", "NSpid:\tx"},
		{"NoNewPrivs:\t1", "NoNewPrivs:\t"},
		{"Umask:\t0027", "Umask:\t9"},
	} {
		if got, err := ParseStatus([]byte(strings.Replace(webd, replace[0], replace[1], 1))); err == nil {
			t.Errorf("with %q parsed as %+v, want an error", replace[1], got)
		}
	}
}

func TestReadSelf(t *testing.T) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	if int(s.UID) != os.Getuid() || int(s.EGID) != os.Getegid() || s.PIDs[len(s.PIDs)-1] != os.Getpid() {
		t.Errorf("read %+v of ourselves", s)
	}
}

func TestCapSet(t *testing.T) {
	s := CapSet(1<<10 | 1<<0 | 1<<63)
	if got, want := s.String(), "CAP_CHOWN CAP_NET_BIND_SERVICE CAP_63"; got != want {
		t.Errorf("names %q, want %q", got, want)
	}
	if !s.Contains(1<<10) || s.Contains(1<<11) || s.Has(64) || s.Has(-1) {
		t.Error("membership is wrong")
	}
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte(webd))
	f.Add([]byte("Uid:\n"))
	f.Add([]byte("Groups:\t4294967296\nUid:\t0\t0\t0\t0"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseStatus(text)
		if err != nil {
			return
		}
		if len(s.Groups) > len(text) || s.Umask > 0o7777 {
			t.Errorf("parsed %+v", s)
		}
	})
}
