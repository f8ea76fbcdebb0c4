// Package unitfile reads systemd unit files as systemd reads them: the lines
// of one file, the search path, templates, aliases, masks, drop-ins, and the
// small grammars inside the values (words, specifiers, Exec lines, time spans,
// sizes, booleans).
//
// It knows no setting by name; package settings does. It reads through an
// fs.FS whose root is the root directory of the system that is meant, and
// resolves symlinks itself, so that an absolute symlink below another root
// stays there (os.DirFS, os.Root.FS and fstest.MapFS all serve). It makes no
// system call of its own and uses the standard library only.
//
// All functions are pure or read only, keep no state, start no goroutine and
// touch paths on the calling goroutine alone, so a caller may stay on a locked
// thread inside a mount namespace.
//
// It is not for: writing units, user managers, what the running manager really
// has in memory (ask D-Bus for that).
package unitfile
