package running

import (
	"fmt"
	"os"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(resolveEnv); spec != "" {
		if err := resolveAsked(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(rig.Main(m))
}
