package integration

import (
	"os"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }
