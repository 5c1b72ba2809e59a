package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// build builds acmed and returns its path.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "acmed")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	return path
}

// daemon is a running acmed.
type daemon struct {
	cmd *exec.Cmd
	log watch.Log
}

func (d *daemon) kill(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = d.cmd.Wait() // it was killed
}

func start(t *testing.T, program string, args ...string) *daemon {
	t.Helper()
	d := &daemon{cmd: exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)}
	d.cmd.Stderr = &d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill() // it may have ended
		_ = d.cmd.Wait()
		if t.Failed() {
			t.Logf("acmed:\n%s", d.log.String())
		}
	})
	watch.Until(t, "acmed serves", func() bool { return strings.Count(d.log.String(), "msg=serving") == 2 })
	return d
}

// free returns an address on loopback that no server uses.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// issue orders a certificate and returns the leaf.
func issue(t *testing.T, client *acme.Client) *x509.Certificate {
	t.Helper()
	order, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := cert.NewCSR(key, cert.Names{"a.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	chain, _, err := client.CreateOrderCert(t.Context(), order.FinalizeURL, csr, true)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// With both databases, a client gets certificates over http and https, and its account and
// the CA survive kill -9 (C22).
func TestRestart(t *testing.T) {
	t.Parallel()
	program := build(t)
	for name, database := range map[string]func(t *testing.T) string{
		"SQLite":     func(*testing.T) string { return "" },
		"PostgreSQL": func(t *testing.T) string { return pgtest.Start(t).Database(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, plain, secure := t.TempDir(), free(t), free(t)
			args := []string{"-dir", dir, "-host", "127.0.0.1", "-http", plain, "-https", secure, "-challenges", "off", "-database", database(t)}
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			var root []byte
			for round := range 2 {
				d := start(t, program, args...)
				roots, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
				if err != nil || round > 0 && !bytes.Equal(root, roots) {
					t.Fatalf("ca.pem: %v", err)
				}
				root = roots
				pool := x509.NewCertPool()
				pool.AppendCertsFromPEM(roots)
				transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}
				for _, url := range []string{"http://" + plain, "https://" + secure} {
					client := &acme.Client{Key: key, DirectoryURL: url + "/acme/directory", HTTPClient: &http.Client{Transport: transport}}
					_, err := client.Register(t.Context(), &acme.Account{}, acme.AcceptTOS)
					if known := err == acme.ErrAccountAlreadyExists; err != nil && !known || known != (round > 0 || strings.HasPrefix(url, "https")) { //nolint:errorlint // x/crypto returns it as it is
						t.Fatalf("round %d, %s: register: %v", round, url, err)
					}
					if _, err := issue(t, client).Verify(x509.VerifyOptions{Roots: pool, Intermediates: intermediates(t, plain), DNSName: "a.example.com"}); err != nil {
						t.Error(err)
					}
				}
				d.kill(t)
			}
		})
	}
}

// intermediates fetches the issuing certificate from the URL in every certificate.
func intermediates(t *testing.T, addr string) *x509.CertPool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/ca/issuing-1.cer", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var der bytes.Buffer
	if _, err := der.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	issuer, err := x509.ParseCertificate(der.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(issuer)
	return pool
}

// A wrong setting ends acmed with the reason.
func TestRefuses(t *testing.T) {
	t.Parallel()
	program := build(t)
	for want, args := range map[string][]string{
		"must be on or off": {"-challenges", "yes"},
		"invalid value":     {"-allow", "10.0.0.0"},
		"missing port":      {"-http", "localhost", "-https", "127.0.0.1:0"},
		"URL":               {"-database", "mysql://x"},
	} {
		cmd := exec.CommandContext(t.Context(), program, append([]string{"-dir", t.TempDir()}, args...)...)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}
