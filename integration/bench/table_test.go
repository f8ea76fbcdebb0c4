package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/integration/rig"
)

// A row is one line of the table.
type row struct {
	figure string
	value  string
	spread string // p10–p90, or what else says how sure the value is
	goal   string
	met    bool
	seen   string // what the value was made of
}

// format is the table, as Markdown with aligned columns.
func format(rows []row) string {
	cells := [][]string{{"figure", "value", "p10–p90", "goal", "", "seen"}}
	for _, r := range rows {
		met := "missed"
		if r.met {
			met = "met"
		}
		cells = append(cells, []string{r.figure, r.value, r.spread, r.goal, met, r.seen})
	}
	width := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, cell := range line {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for n, line := range cells {
		for i, cell := range line {
			fmt.Fprintf(&b, "| %s%s ", cell, strings.Repeat(" ", width[i]-len([]rune(cell))))
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, w := range width {
				b.WriteString("|" + strings.Repeat("-", w+2))
			}
			b.WriteString("|\n")
		}
	}
	return b.String()
}

// machine says what the figures were taken on.
func machine(c *rig.Container) string {
	var uts unix.Utsname
	_ = unix.Uname(&uts)
	model := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
				break
			}
		}
	}
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("%s, %d cores, Linux %s, systemd %d, %s; load at the end %s\n", model, runtime.NumCPU(),
		unix.ByteSliceToString(uts.Release[:]), c.SystemdVersion(), runtime.Version(), strings.Join(strings.Fields(string(load))[:3], " "))
}

// quantile is the value that the share p of all does not exceed.
func quantile(xs []float64, p float64) float64 {
	s := slices.Sorted(slices.Values(xs))
	return s[int(p*float64(len(s)-1)+0.5)]
}

func median(xs []float64) float64 {
	s := slices.Sorted(slices.Values(xs))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// A ratio is a/b of medians, each less its ground where there is one. All series
// are of the same rounds.
type ratio struct {
	a, aGround, b, bGround []float64
}

func (r ratio) of(pick func([]float64) float64) float64 {
	net := func(x, ground []float64) float64 {
		if ground == nil {
			return pick(x)
		}
		return pick(x) - pick(ground)
	}
	return net(r.a, r.aGround) / net(r.b, r.bGround)
}

func (r ratio) value() float64 { return r.of(median) }

// spread draws the rounds again, with repetition, and says between what the
// ratios lie then.
func (r ratio) spread() string {
	const draws = 2000
	n := len(r.a)
	random := rand.New(rand.NewPCG(1, 2))
	found := make([]float64, draws)
	for i := range found {
		which := make([]int, n)
		for j := range which {
			which[j] = random.IntN(n)
		}
		found[i] = r.of(func(x []float64) float64 {
			drawn := make([]float64, n)
			for j, w := range which {
				drawn[j] = x[w]
			}
			return median(drawn)
		})
	}
	return fmt.Sprintf("%.2f–%.2f", quantile(found, .1), quantile(found, .9))
}

// row makes a line of it, with the goal that the ratio is at most limit.
func (r ratio) row(figure string, limit float64, seen string) row {
	v := r.value()
	return row{figure: figure, value: fmt.Sprintf("%.2f", v), spread: r.spread(), goal: fmt.Sprintf("<= %.3g", limit), met: v <= limit, seen: seen}
}

// ms is the median of a series, and its spread.
func ms(xs []float64) string {
	return fmt.Sprintf("%.2f ms (%.2f–%.2f)", median(xs), quantile(xs, .1), quantile(xs, .9))
}
