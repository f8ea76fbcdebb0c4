package layers

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"

	"golang.org/x/sys/unix"
)

// Fingerprint stands for the state of everything below a directory: of each
// entry its path, type, permissions, owner, size, times of modification and
// change, and where a symbolic link leads. Two that are equal mean that nothing
// was changed in between; contents are not read, as no content changes without
// the times.
//
// The directory's own name, times and permissions do not count, so that renaming
// it is no change. The directory stays open and is the caller's.
//
// A directory that the kernel would not let anybody look into, because overlayfs
// has marked it as a part of another overlay, is an error.
func Fingerprint(dir *os.File) (string, error) {
	// Each field has a fixed length or its length before it, so that no two
	// states are written alike.
	const flushAt = 4 << 10
	hash := sha256.New()
	text := make([]byte, 0, flushAt+1024)
	visit := func(e *Entry) error {
		text = appendEntry(text, e)
		if len(text) >= flushAt {
			_, _ = hash.Write(text) // A hash's Write does not fail.
			text = text[:0]
		}
		return nil
	}
	if err := walk(dir, &walker{visit: visit, refuseRedirects: true}); err != nil {
		return "", err
	}
	_, _ = hash.Write(text)
	return hex.EncodeToString(hash.Sum(nil)), nil
}

func appendEntry(text []byte, e *Entry) []byte {
	number := binary.LittleEndian.AppendUint64
	text = appendText(number(text, uint64(e.Depth)), e.Name)
	if e.Covered {
		return append(text, 1)
	}
	text = append(text, 0)
	text = number(text, uint64(e.Mode)<<32|uint64(e.UID))
	text = number(text, uint64(e.GID))
	text = number(text, e.Size)
	if e.Mode&unix.S_IFMT != unix.S_IFDIR {
		// A directory's number is not stable on an overlay over several file
		// systems (Documentation/filesystems/overlayfs.rst).
		text = number(text, e.Inode)
	}
	text = number(text, e.Device)
	text = number(text, uint64(e.Mtime.Unix()))
	text = number(text, uint64(e.Mtime.Nanosecond())<<32|uint64(e.Ctime.Nanosecond()))
	text = number(text, uint64(e.Ctime.Unix()))
	return appendText(text, e.Target)
}

func appendText(text []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(text, uint64(len(s))), s...)
}
