package reload

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/internal/pathtrust"
)

// trusted refuses an extension that another user could have put there, or could
// replace: root is about to execute what is in it. Must run in the host view.
func trusted(p *extension.Picked) error {
	err := pathtrust.Check(p.Path)
	for try := 0; errors.Is(err, fs.ErrNotExist) && p.Follow(try); try++ {
		err = pathtrust.Check(p.Path)
	}
	var untrusted *pathtrust.Error
	if !errors.As(err, &untrusted) {
		return err
	}
	return fmt.Errorf("extension %q: %w", p.Ref.String(), err)
}
