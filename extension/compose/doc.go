// Package compose prepares the directory that an image is made of.
//
//   - [Check] looks at a directory that is an extension: of which classes, and
//     whether it has only what these carry, and a release file that will be found.
//   - [Compose] writes one directory that shows what a stack of extensions shows,
//     with whiteouts and opaque directories for what lies beneath, and one release
//     file that demands what all of them demand.
//
// Owners, modes, times, extended attributes and hard links are kept. Attributes of
// overlayfs are not copied but made anew: a part of another overlay (redirects,
// files without data) is refused. Release files of the parts are left out.
//
// Sources are read by descriptors, and no symbolic link in them is followed. The
// directory that is written to must be the caller's own. Everything happens on the
// calling goroutine.
//
// It is not for making the image: that is package image/build. It mounts nothing.
package compose
