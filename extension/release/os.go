package release

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// OS is what extensions are matched against: the os-release of a service root.
// The zero OS is one that nothing is known of; only ID=_any matches it.
type OS struct {
	File   string // where it was found in the root
	Fields map[string]string
}

// ReadOS reads /etc/os-release, or else /usr/lib/os-release, of a root
// directory, which may be an O_PATH descriptor. Where there is neither, the
// error satisfies [fs.ErrNotExist].
func ReadOS(root *os.File) (OS, error) {
	for _, path := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		pinned, err := openIn(root, path, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return OS{}, err
		}
		f, err := openRegular(pinned)
		if err != nil {
			return OS{}, err
		}
		fields, err := readFields(f)
		_ = f.Close()
		if err != nil {
			return OS{}, err
		}
		return OS{File: path, Fields: fields}, nil
	}
	return OS{}, fmt.Errorf("read os-release of the service root: neither /etc/os-release nor /usr/lib/os-release is there: %w", fs.ErrNotExist)
}
