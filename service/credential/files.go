package credential

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Bounds of the two files. A group line lists its members, so it may be long.
const (
	maxDatabase = 64 << 20
	maxLine     = 1 << 20
)

// account is one line of passwd(5), and what userdb says of a user.
type account struct {
	name, home, shell string
	uid, gid          uint32
}

// group is one line of group(5).
type group struct {
	name    string
	gid     uint32
	members []string
}

// parseAccount parses a line of passwd(5). A line that is none (a comment, a
// "+" of NIS, a broken one) is passed over, as the C library does.
func parseAccount(line string) (account, bool) {
	f := strings.Split(line, ":")
	if len(f) != 7 || !plainName(f[0]) {
		return account{}, false
	}
	uid, okUID := parseID(f[2])
	gid, okGID := parseID(f[3])
	return account{name: f[0], uid: uid, gid: gid, home: f[5], shell: f[6]}, okUID && okGID
}

// parseGroup parses a line of group(5).
func parseGroup(line string) (group, bool) {
	f := strings.Split(line, ":")
	if len(f) != 4 || !plainName(f[0]) {
		return group{}, false
	}
	gid, ok := parseID(f[2])
	members := slices.DeleteFunc(strings.Split(f[3], ","), func(m string) bool { return m == "" })
	return group{name: f[0], gid: gid, members: members}, ok
}

// plainName says that the name is no NIS entry ("+", "-name") and no comment.
func plainName(name string) bool {
	return name != "" && !strings.ContainsAny(name[:1], "+-#")
}

// parseID parses a uid or gid. -1, also as 16 bits, means "do not change" to
// the kernel, and systemd takes neither for an id (parse_uid).
func parseID(s string) (uint32, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' || (len(s) > 1 && s[0] == '0') {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n != 0xffffffff && n != 0xffff
}

// scanFile calls see for every line of a file until it says stop. A file that
// does not exist has no lines.
func scanFile(path string, see func(line string) (stop bool)) error {
	// A fifo in place of the file must not hold up a start.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("read %q: not a regular file", path))
	}
	if err := scanLines(f, see); err != nil {
		return fmt.Errorf("read %q: %w", path, err)
	}
	return nil
}

func scanLines(r io.Reader, see func(line string) (stop bool)) error {
	lines := bufio.NewScanner(io.LimitReader(r, maxDatabase))
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if see(lines.Text()) {
			return nil
		}
	}
	return lines.Err()
}

// findAccount returns the first account that matches, nil when there is none.
func findAccount(path string, match func(account) bool) (*account, error) {
	var found *account
	err := scanFile(path, func(line string) bool {
		if a, ok := parseAccount(line); ok && match(a) {
			found = &a
		}
		return found != nil
	})
	return found, err
}

// findGroup returns the first group that matches, nil when there is none.
func findGroup(path string, match func(group) bool) (*group, error) {
	var found *group
	err := scanFile(path, func(line string) bool {
		if g, ok := parseGroup(line); ok && match(g) {
			found = &g
		}
		return found != nil
	})
	return found, err
}

// membershipsIn lists the groups that have the user as a member, in the order
// of the file.
func membershipsIn(path, user string) ([]uint32, error) {
	var gids []uint32
	err := scanFile(path, func(line string) bool {
		if g, ok := parseGroup(line); ok && slices.Contains(g.members, user) {
			gids = append(gids, g.gid)
		}
		return false
	})
	return gids, err
}
