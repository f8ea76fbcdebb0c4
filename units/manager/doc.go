// Package manager is systemd, over D-Bus: where a unit comes from, how it is,
// what its main process is, and jobs that start, stop and reload it. It is the
// one package that speaks D-Bus.
//
// A [Manager] satisfies the small interfaces that other packages have for what
// they need of it, such as service.MainPIDer; they do not import this one.
//
// # Contract
//
// Every method takes a context and gives up when that ends; a job that was
// queued goes on in systemd. A Manager may be used by several goroutines.
//
// It is not for the paths of start and reload: the bus may not be there in early
// boot, and within ExecReload= systemd has said all that is needed in the
// environment.
package manager
