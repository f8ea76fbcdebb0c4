// Package testclient is what tests know of a running testservice: its report, and how to ask for it.
package testclient

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// limit bounds one question.
const limit = 10 * time.Second

// A Report is what a test service has seen since its start, or since it was last told to forget.
type Report struct {
	PID     int      `json:"pid"`
	Reloads int      `json:"reloads"`
	Accepts int      `json:"accepts"`
	Pings   int      `json:"pings"` // of the watchdog
	Execs   int      `json:"execs"` // how often it has exec'ed itself anew
	Files   []*Reads `json:"files"`
}

// Reads is what the reader of one file has seen.
type Reads struct {
	Path       string            `json:"path"`
	Lookups    uint64            `json:"lookups"` // opens that were tried
	Failed     uint64            `json:"failed"`
	FirstError string            `json:"firstError,omitempty"`
	Contents   map[string]uint64 `json:"contents"` // how often each content was read; the first 100 bytes of it
	Last       string            `json:"last"`
}

// File returns what was read of a path, nil if the service does not read it.
func (r *Report) File(path string) *Reads {
	for _, f := range r.Files {
		if f.Path == path {
			return f
		}
	}
	return nil
}

// Ask sends one word to the control socket of a test service: "report", "forget" (which reports, then starts
// counting anew) or "reload".
func Ask(socket, word string) (*Report, error) {
	conn, err := net.DialTimeout("unix", socket, limit)
	if err != nil {
		return nil, fmt.Errorf("ask test service: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintln(conn, word); err != nil {
		return nil, fmt.Errorf("ask test service: %w", err)
	}
	var r Report
	if err := json.NewDecoder(bufio.NewReader(conn)).Decode(&r); err != nil {
		return nil, fmt.Errorf("read answer of test service: %w", err)
	}
	return &r, nil
}
