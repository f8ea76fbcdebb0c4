package buildinfo

import (
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFrom(t *testing.T) {
	vcs := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "vcs.modified", Value: "true"}}
	for _, c := range []struct {
		linked string
		build  debug.BuildInfo
		want   Info
		text   string
	}{
		{"", debug.BuildInfo{}, Info{Version: "devel"}, "devel"},
		{"", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, Info{Version: "devel"}, "devel"},
		{"", debug.BuildInfo{GoVersion: "go1.26", Main: debug.Module{Version: "v1.2.3"}}, Info{Version: "v1.2.3", Go: "go1.26"}, "v1.2.3"},
		{
			"1.2.3", debug.BuildInfo{Main: debug.Module{Version: "v0.0.0"}, Settings: vcs},
			Info{Version: "1.2.3", Commit: "0123456789abcdef", Time: "2026-01-02T03:04:05Z", Modified: true}, "1.2.3 (0123456789ab, modified)",
		},
	} {
		got := from(c.linked, &c.build)
		if diff := cmp.Diff(c.want, got); diff != "" || got.String() != c.text {
			t.Errorf("%q: %q %s", c.linked, got, diff)
		}
	}
	if got := Read(); got.Go != runtime.Version() {
		t.Errorf("this build: %+v", got)
	}
}
