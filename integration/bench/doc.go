// Package bench takes the figures that docs/performance.md shows, in a container
// with systemd 262, and prints them as one table. It is a test binary, since that
// is what the rig boots containers for; it judges nothing but what it cannot
// measure: a goal that is missed is a line of the table, not a failure.
//
//	make bench
//	bin/bench -table -test.run 'TestTable/reload' -runs 51   # some of them, more often
//
// What is compared is taken in turn (A B A B …), so that a machine that is busy
// for a while favours nobody. A value is the median; behind it stand the 10th and
// the 90th percentile, for a ratio those of 2,000 medians of the rounds drawn
// again with repetition.
package bench
