package rig

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"
)

// Dial connects, from inside the container, to an address of numbers ("127.0.0.1:80").
func (c *Container) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := c.Inside(func() (err error) {
		// The net package makes the socket of an address of numbers on the calling goroutine, and a socket
		// stays in the network namespace that it was made in.
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// HTTPClient returns a client whose connections are made inside the container.
func (c *Container) HTTPClient() *http.Client {
	t := &http.Transport{DialContext: c.Dial, MaxIdleConnsPerHost: 64}
	c.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: commandLimit}
}

// Get connects to a TCP address of the container and reads what is sent until the connection is closed.
func (c *Container) Get(address string) string {
	c.t.Helper()
	conn, err := c.Dial(c.t.Context(), "tcp", address)
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(commandLimit)); err != nil {
		c.t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}
