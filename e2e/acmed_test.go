package e2e

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
)

// acmed is the program examples/acmed, which all clients share. It needs no external
// account binding, and with -challenges off no challenges.
type acmed struct {
	dir        string
	plain, tls int // ports
}

func startAcmed(t *testing.T) func(*testing.T, kind) *site {
	a := &acmed{dir: t.TempDir()}
	for _, port := range []*int{&a.plain, &a.tls} {
		var err error
		if *port, err = pebbletest.FreePort(); err != nil {
			t.Fatal(err)
		}
	}
	a.run(t)
	root, err := os.ReadFile(filepath.Join(a.dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	return func(t *testing.T, k kind) *site {
		s := newSite(t, k, false)
		s.directory = fmt.Sprintf("https://127.0.0.1:%d/acme/directory", a.tls)
		s.setTrust(t, root)
		s.roots, s.revoked = roots, a.revoked
		return s
	}
}

// run builds and starts the program, and ends it after the test.
func (a *acmed) run(t *testing.T) {
	t.Helper()
	program := filepath.Join(a.dir, "acmed")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/acmeproxy/acmeproxy/examples/acmed")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var out output
	s := &site{dir: a.dir}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := s.command(ctx, nil, program, "-dir", a.dir, "-host", "127.0.0.1", "-challenges", "off",
		"-http", fmt.Sprintf("127.0.0.1:%d", a.plain), "-https", fmt.Sprintf("127.0.0.1:%d", a.tls))
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Logf("acmed:\n%s", out.String())
		}
	})
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		_, err := a.get(t, "/acme/directory")
		switch {
		case err == nil:
			return
		case time.Since(begin) > time.Minute:
			t.Fatalf("acmed does not start: %v\n%s", err, out.String())
		}
	}
}

// get returns a page of the server.
func (a *acmed) get(t *testing.T, path string) ([]byte, error) {
	url := fmt.Sprintf("http://127.0.0.1:%d%s", a.plain, path)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// revoked reads the CRL that certificates name.
func (a *acmed) revoked(t *testing.T, serial *big.Int) bool {
	t.Helper()
	crl, err := a.get(t, "/ca/issuing-1.crl")
	if err != nil {
		t.Fatal(err)
	}
	return inCRL(t, crl, serial)
}

// inCRL reports whether a certificate is in a CRL in DER.
func inCRL(t *testing.T, crl []byte, serial *big.Int) bool {
	t.Helper()
	list, err := x509.ParseRevocationList(crl)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(serial) == 0 {
			return true
		}
	}
	return false
}
