// Package textdiff writes unified diffs of small texts, as diff -u does. It looks
// at bytes and never at files.
//
// Time and memory are bounded: where two texts have too little in common to say in
// a short time what that is, the part in which they differ is shown as replaced.
// Not for patches of binary files; [IsText] tells them apart.
package textdiff
