// Package gpt reads GUID partition tables (UEFI specification, chapter 5) of images that nobody vouches for: every
// count and every range is checked before it is used, and what is not exactly right is refused with an error that
// says what is wrong.
//
// A table is looked for only where there is a protective MBR, as the kernel and libblkid do. The sector size is not
// known for a file, so the header is tried at 512, 1024, 2048 and 4096 bytes. Where the first header or its entries
// are damaged, the backup at the end of the image is taken.
//
// Encode writes a table for a new image; nothing here changes one that is there.
//
// The package is pure; a Table is a plain value. It is not for MBR partitions.
package gpt
