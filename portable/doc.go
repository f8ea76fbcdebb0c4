// Package portable attaches portable service images (systemd's PORTABLE_SERVICES, portablectl(1)) to the host, with
// extensions, and detaches them.
//
// # Contract
//
// [Host.Attach], [Host.Detach] and [Host.Reattach] are transactions. What is attached is one directory
// (system.attached, systemd.unit(5)): the new one is made aside, and exchanged for the old one by one rename
// (RENAME_EXCHANGE, rename(2)). So whatever fails, and whenever the program is killed, all units of an image are
// attached or none is, and the next of these calls makes links and copies of images fit what is attached. What is
// done after the exchange (systemd reads the units, links, enable, start) is taken back
// where a later step fails.
//
// The files are those of systemd-portabled, which need not be there: portablectl lists, inspects and detaches what
// this package has attached, and the other way round. An extension that is given as a ".v/" directory stays one in
// the drop-in, so that a reload of the unit exchanges it.
//
// Images are opened read-only, and nothing in them is believed: names are checked, sizes bounded, links followed
// inside the image alone.
//
// # Threads
//
// Everything happens on the caller's goroutine, in its mount namespace: that of the host.
//
// # Not for
//
// The exchange of extensions of a running service, which is package reload's; services of a user's manager.
package portable
