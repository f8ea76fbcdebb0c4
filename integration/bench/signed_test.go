package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/extexec/extexec/integration/vm"
)

// signedStart compares starts with a signed image. The kernel has to verify it, so they
// are made in a virtual machine, by BenchmarkStart of integration/vm/withsystemd.
func signedStart(k *kit) []row {
	const warm = 3
	dir := k.t.TempDir()
	c := vm.Config{Kernel: vm.Linux7_2, Systemd: true, Guest: dir + "/guest", Files: map[string]string{}, Tasks: []vm.Task{{
		Name: "bench", Dir: "/var/tmp",
		Argv: []string{"/payload/tests", "-test.run=^$", "-test.bench=^BenchmarkStart$", "-test.benchtime=" + strconv.Itoa(warm+*runs) + "x"},
	}}}
	k.check(vm.Prepare([]vm.Kernel{c.Kernel}))
	k.check(vm.Build(c.Guest, "./integration/vm/guest"))
	for name, pkg := range map[string]string{"extexec": "./cmd/extexec", "testservice": "./integration/testservice"} {
		c.Files[name] = filepath.Join(dir, name)
		k.check(vm.Build(c.Files[name], pkg))
	}
	c.Files["tests"] = dir + "/tests"
	k.check(vm.BuildTest(c.Files["tests"], "./integration/vm/withsystemd"))

	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	var out strings.Builder
	_, err := vm.Run(ctx, c, func(e vm.Event) { out.WriteString(e.Output) })
	k.check(err)
	var bare, systemd, extexec []float64
	rounds := 0
	for line := range strings.Lines(out.String()) {
		var a, b, c float64
		if _, err := fmt.Sscanf(line, "start %f %f %f", &a, &b, &c); err != nil {
			continue
		}
		if rounds++; rounds > warm {
			bare, systemd, extexec = append(bare, a/1e6), append(systemd, b/1e6), append(extexec, c/1e6)
		}
	}
	if len(bare) != *runs {
		k.t.Fatalf("%d rounds:\n%s", len(bare), out.String())
	}
	r := ratio{a: extexec, aGround: bare, b: systemd, bGround: bare}
	return []row{r.row("start with a signed erofs DDI, net: extexec / systemd 262, in qemu", 1,
		fmt.Sprintf("extexec %s, systemd %s, bare %s; emulated, Linux %s, dm-verity by both", ms(extexec), ms(systemd), ms(bare), c.Kernel.Name))}
}
