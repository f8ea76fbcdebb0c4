package portable_test

import (
	"testing"

	"github.com/extexec/extexec/nsmount/nsmounttest"
)

func TestMain(m *testing.M) { nsmounttest.Main(m) }
