package remote_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/smalldisk"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// In acme-client mode, too, nothing is ordered that cannot be stored: on a
// full disk, with a folder instead of a file, behind a dangling link. It is ordered as
// soon as it can be stored.
func TestClientOutputUnusable(t *testing.T) {
	t.Parallel()
	disk := smalldisk.Mount(t, 1<<20)
	disk.Fill(t, 0)
	blocked := filepath.Join(disk.Dir, "own.example.com", "privkey.pem")
	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(func(c *proxy.Config) {
		c.Domains, c.CertDir = []string{"own.example.com"}, disk.Dir
	})})
	unusable := func(what, want string) {
		t.Helper()
		seen := strings.Count(p.Log(), want)
		clk.Advance(time.Hour)
		watch.Until(t, what, func() bool { p.Tick(t); return strings.Count(p.Log(), want) > seen })
		if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 0 {
			t.Errorf("%s: %d orders", what, n)
		}
	}
	unusable("the full disk is noticed", "no space left")
	disk.Clear(t)
	if err := os.MkdirAll(blocked, 0o755); err != nil {
		t.Fatal(err)
	}
	disk.Fill(t, 512<<10)
	unusable("the folder is noticed", "is a folder, where a file belongs")
	folder := filepath.Dir(blocked)
	if err := errors.Join(os.RemoveAll(folder), os.Symlink("/mnt/not-mounted/x", folder)); err != nil {
		t.Fatal(err)
	}
	unusable("the link is noticed", "is a symbolic link to /mnt/not-mounted/x")
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	clk.Advance(24 * time.Hour)
	watch.Until(t, "the certificate is there", func() bool {
		p.Tick(t)
		_, err := certfile.Read(filepath.Dir(blocked))
		return err == nil
	})
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
}
