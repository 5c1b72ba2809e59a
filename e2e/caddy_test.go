package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// caddy is the web server Caddy, which manages certificates while it runs. It cannot
// revoke one on demand.
type caddy struct{ *site }

func startCaddy(_ *testing.T, s *site) client { return caddy{s} }

func (caddy) register(context.Context) error {
	return &lacking{"Caddy registers when it orders the first certificate"}
}

// config returns a configuration that manages certificates and serves nothing. A
// certificate is due for renewal when less than due of its lifetime is left.
func (c caddy) config(names []string, due float64) ([]byte, error) {
	issuer := map[string]any{
		"module": "acme", "ca": c.directory, "email": "admin@example.com", "trusted_roots_pem_files": []string{c.trust},
		"challenges": map[string]any{
			"bind_host": "127.0.0.1",
			"http":      map[string]any{"alternate_port": c.port},
			"tls-alpn":  map[string]any{"disabled": true},
		},
	}
	if c.kid != "" {
		issuer["external_account"] = map[string]any{"key_id": c.kid, "mac_key": c.hmac}
	}
	policy := map[string]any{"subjects": names, "issuers": []any{issuer}, "renewal_window_ratio": due}
	return json.Marshal(map[string]any{
		"admin":   map[string]any{"disabled": true},
		"storage": map[string]any{"module": "file_system", "root": c.path("caddy")},
		"apps": map[string]any{"tls": map[string]any{
			"certificates": map[string]any{"automate": names},
			"automation":   map[string]any{"policies": []any{policy}},
		}},
	})
}

func (c caddy) issue(ctx context.Context, names ...string) ([]*certificate, error) {
	return c.manage(ctx, names, 0.01, nil)
}

func (c caddy) renew(ctx context.Context, names ...string) ([]*certificate, error) {
	old, err := c.read(names)
	if err != nil {
		return nil, err
	}
	return c.manage(ctx, names, 1, old)
}

// manage runs Caddy until it has certificates for all names other than the old ones, or
// until it fails to get one.
func (c caddy) manage(ctx context.Context, names []string, due float64, old []*certificate) ([]*certificate, error) {
	config, err := c.config(names, due)
	if err != nil {
		return nil, err
	}
	if err := c.write("caddy.json", string(config), 0o600); err != nil {
		return nil, err
	}
	var out output
	cmd := c.command(ctx, nil, "caddy", "run", "--config", c.path("caddy.json"))
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	}()
	for {
		// During a renewal, certificate and key may not belong together.
		certs, unread := c.read(names)
		switch {
		case unread == nil && differ(certs, old):
			return certs, nil
		case strings.Contains(out.String(), "will retry"), strings.Contains(out.String(), "job failed"):
			return nil, fmt.Errorf("caddy: %s", out.String())
		}
		select {
		case err := <-ended:
			ended <- err
			return nil, fmt.Errorf("caddy: %w\n%s", err, out.String())
		case <-ctx.Done():
			return nil, fmt.Errorf("caddy: %w, %w\n%s", ctx.Err(), unread, out.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// read returns the stored certificates, one for each name.
func (c caddy) read(names []string) ([]*certificate, error) {
	var all []*certificate
	for _, name := range names {
		name = strings.ReplaceAll(name, "*", "wildcard_")
		// The file with metadata is the last that Caddy writes.
		found, err := filepath.Glob(c.path("caddy", "certificates", "*", name, name+".json"))
		if err != nil || len(found) == 0 {
			return nil, errors.Join(err, os.ErrNotExist)
		}
		file := strings.TrimSuffix(found[0], ".json")
		cert, err := readCertificate(file+".crt", file+".key")
		if err != nil {
			return nil, err
		}
		all = append(all, cert)
	}
	return all, nil
}

// differ reports whether all certificates are other ones.
func differ(certs, old []*certificate) bool {
	for i := range old {
		if bytes.Equal(certs[i].leaf.Raw, old[i].leaf.Raw) {
			return false
		}
	}
	return true
}

func (caddy) revoke(context.Context, *certificate) error {
	return &lacking{"Caddy has no command that revokes a certificate"}
}

func (caddy) rollover(context.Context) error {
	return &lacking{"Caddy has no command that changes the account key"}
}

// output collects what a running program prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
