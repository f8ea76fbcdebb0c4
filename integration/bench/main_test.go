package bench

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/extexec/extexec/integration/rig"
)

var (
	table = flag.Bool("table", false, "take the figures and print the table (minutes)")
	runs  = flag.Int("runs", 31, "how often everything is timed")
)

func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }

// figures are the lines of the table, in its order. One taker may give several.
var figures = []struct {
	name string
	take func(k *kit) []row
}{
	{"lookups", lookups},
	{"leaks", leaks},
	{"hidden", hidden},
	{"systemctl-reload", systemctlReload},
	{"systemctl-start", systemctlStart},
	{"signed-start", signedStart},
	{"reload", reload},
	{"exchange", exchange},
	{"check", check},
	{"if-changed", ifChanged},
	{"many", many},
	{"layers", layers},
	{"plan", plan},
	{"watch", watch},
	{"attach", attach},
	{"build", build},
	{"verified", verified},
	{"resident", resident},
	{"size", size},
}

// TestTable prints the table, with -table: it takes minutes and asserts nothing.
func TestTable(t *testing.T) {
	if !*table {
		return
	}
	c := rig.Boot(t, rig.Forky, rig.Options{})
	var rows []row
	for _, f := range figures {
		t.Run(f.name, func(t *testing.T) {
			began := time.Now()
			fmt.Fprintf(os.Stderr, "%s …", f.name)
			rows = append(rows, f.take(&kit{t: t, c: c.For(t)})...)
			fmt.Fprintf(os.Stderr, " %.0f s\n", time.Since(began).Seconds())
		})
	}
	fmt.Print(machine(c), "\n", format(rows))
}
