// Command hammer is the service of the demo: it opens files without a pause, on
// every processor, and counts the lookups that fail.
//
//	hammer --version FILE... -- FILE...
//
// It opens all files that it is given, all the time. What it is asked on standard
// input, it answers on standard output: "read" with the contents of the first
// list, anew, "count" with what was counted so far. At the end of its input it ends.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

type counts struct {
	opens, failed atomic.Uint64
	first         atomic.Pointer[string] // the first failure
}

func main() {
	versions, others := split(os.Args[1:])
	if len(versions) == 0 {
		fmt.Fprintln(os.Stderr, "usage: hammer --version FILE... -- FILE...")
		os.Exit(2)
	}
	var c counts
	began := time.Now()
	for range runtime.GOMAXPROCS(0) {
		go c.hammer(append(others, versions...))
	}
	c.answer(versions, began)
}

// split takes the two lists of files apart.
func split(args []string) (versions, others []string) {
	if len(args) == 0 || args[0] != "--version" {
		return nil, nil
	}
	for i, a := range args {
		if a == "--" {
			return args[1:i:i], args[i+1:]
		}
	}
	return args[1:], nil
}

// hammer opens the files again and again. It makes the system calls itself: the
// runtime's poller would only slow it down.
func (c *counts) hammer(paths []string) {
	for {
		for _, path := range paths {
			fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
			for err == syscall.EINTR {
				fd, err = syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
			}
			c.opens.Add(1)
			if err != nil {
				text := fmt.Sprintf("open %s: %v", path, err)
				c.failed.Add(1)
				c.first.CompareAndSwap(nil, &text)
				continue
			}
			_ = syscall.Close(fd)
		}
	}
}

// answer answers until the input ends.
func (c *counts) answer(versions []string, began time.Time) {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch in.Text() {
		case "read":
			fmt.Println(contents(versions))
		case "count":
			// The opens after the failures: what failed was opened before.
			failed, opens := c.failed.Load(), c.opens.Load()
			fmt.Println(failed, opens, int(float64(opens)/time.Since(began).Seconds()))
			if text := c.first.Load(); text != nil {
				fmt.Fprintln(os.Stderr, "hammer: first failure:", *text)
			}
		}
	}
}

// contents reads the files; a failure shows as text.
func contents(paths []string) string {
	var all []string
	for _, path := range paths {
		all = append(all, content(path))
	}
	return strings.Join(all, " ")
}

func content(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return "failed"
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return "failed"
	}
	return strings.TrimSpace(string(data))
}
