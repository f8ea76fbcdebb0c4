// Package policy reads image policy strings, as systemd.image-policy(7) has them: which partitions an image may
// have, which of them may be used, and how each must be protected.
//
// A policy is a set of what is allowed, so "verity+signed" also lets an image with unsigned verity in. Values are
// plain and comparable, and nothing here touches an image: package image asks, and refuses with ErrDenied.
//
// The package is pure and safe for use by any number of goroutines.
package policy
