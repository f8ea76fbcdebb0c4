package hierarchy

import (
	"os"
	"strings"
	"testing"
)

func TestApart(t *testing.T) {
	layer, none := Wanted{Layers: []*os.File{nil}}, Wanted{}
	live := []Overlay{{Owner: Ours}}
	for name, tt := range map[string]struct {
		usr, opt         *Survey
		usrGets, optGets Wanted
		want             string
	}{
		"beside":       {&Survey{Point: "/usr"}, &Survey{Point: "/usr-opt"}, layer, layer, ""},
		"below":        {&Survey{Point: "/usr"}, &Survey{Point: "/usr/lib/opt"}, layer, layer, `stage "/opt": it is "/usr/lib/opt"`},
		"above":        {&Survey{Point: "/var/opt/usr"}, &Survey{Point: "/var/opt"}, layer, layer, `stage "/usr": it is "/var/opt/usr"`},
		"the same":     {&Survey{Point: "/usr"}, &Survey{Point: "/usr"}, layer, layer, "one is in the other"},
		"no layer":     {&Survey{Point: "/usr"}, &Survey{Point: "/usr/lib/opt"}, layer, none, ""},
		"live already": {&Survey{Point: "/usr"}, &Survey{Point: "/usr/lib/opt", Overlays: live}, layer, none, `stage "/opt"`},
		"missing":      {&Survey{Point: "/usr"}, &Survey{}, layer, layer, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tt.usr.Path, tt.opt.Path = "/usr", "/opt"
			err := apart([]*Survey{tt.usr, tt.opt}, []Wanted{tt.usrGets, tt.optGets})
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
