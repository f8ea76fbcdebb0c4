// Package settings says what a service asks of extexec: the extension settings
// of [Service] as systemd reads them, the section [X-Extexec], and the flags of
// a command line, as one value. Its refs stand in layer order.
//
// In [Service] systemd's own lenient rules hold: what systemd skips is skipped,
// with a line in Settings.Warnings. In [X-Extexec], which systemd ignores, an
// unknown key, a bad value or a line without "=" is a *unitfile.SyntaxError
// with file and line: a typo must not silently drop a check.
//
// Everything here is a plain value or a pure function over one, except Load,
// which reads files on the calling goroutine. Nothing is resolved against the
// file system: whether a ref's path exists is for package extension.
package settings
