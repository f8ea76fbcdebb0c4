package integration

import (
	"io"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// TestNginxAsShipped shows that Debian's nginx runs in the rig as its package has it, and answers.
func TestNginxAsShipped(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		if got := c.Show("nginx.service", "Type"); got != "forking" {
			t.Errorf("nginx.service is Type=%s, want forking", got)
		}
		c.UseUnit("nginx.service")
		c.Systemctl("start", "nginx.service")
		resp, err := c.HTTPClient().Get("http://127.0.0.1/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		page, err := io.ReadAll(resp.Body)
		if err != nil || !strings.Contains(string(page), "nginx") {
			t.Errorf("page: %q (%v)", page, err)
		}
	})
}
