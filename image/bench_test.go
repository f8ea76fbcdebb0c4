package image_test

import (
	"testing"

	"github.com/extexec/extexec/image/gpt/gpttest"
)

func BenchmarkOpen(b *testing.B) {
	for _, name := range []string{"erofs", "squashfs-gzip", "disk", "usr"} {
		b.Run(name, func(b *testing.B) {
			var path string
			switch name {
			case "disk", "usr":
				typ, below := rootX86, ""
				if name == "usr" {
					typ, below = usrX86, "usr"
				}
				data := content(b, makerNamed(b, "squashfs-gzip").make(b, source(b, below)))
				path = partitioned(b, 512, gpttest.Partition{Type: typ, Data: data})
			default:
				path = makerNamed(b, name).make(b, source(b, ""))
			}
			for b.Loop() {
				closeImage(b, mustOpen(b, path, open))
			}
		})
	}
}
