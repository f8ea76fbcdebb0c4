// Package hierarchy is one hierarchy (/usr, /opt, /etc) of one mount namespace,
// as extexec means it: surveyed, staged, exchanged, exchanged back.
//
// # Flow
//
//	view, err := hierarchy.Take(ctx, ns, live, options)         // look, once; clone out all that is needed
//	staged, err := hierarchy.Stage(ctx, view, wanted, rehearse) // complete trees, carried mounts on, locked
//	err = live.Do(ctx, staged[i].Exchange)                     // the new tree beneath, the old one detached
//	err = live.Do(ctx, staged[i].ExchangeBack)                 // the inverse
//
// Taking a view is the only time that paths are looked up in the target
// namespace, but for the exchange itself; whether the carried mounts are still those
// ([View.Unchanged]) is told by the mount table.
//
// # Carried mounts
//
// What is mounted below a hierarchy (BindPaths=, InaccessiblePaths=, the host's
// own) must be there in the new tree before it is seen: [Carried] says how each
// kind comes along. A tree that carries mounts is locked while it is staged, so
// that detaching it later never shows what they hide, not even to somebody who
// still stands in it.
//
// # Threads
//
// Exchange and ExchangeBack must run on a thread of the target namespace whose
// working directory nobody relies on ([nsmount.Namespace.Do]); everything else
// may be called from any goroutine. What is read in the target is not trusted:
// the service may be hostile, or its file systems may hang, so all of it runs
// under a context.
//
// # Not for
//
// Which layers there should be, and when: package reload.
package hierarchy
