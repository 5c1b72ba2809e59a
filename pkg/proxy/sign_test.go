package proxy_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/dnstest"
	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/rawhttp"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// signINI writes a configuration of ACMEMS with the key of its account, since a new RSA key
// takes seconds, and returns its path.
func signINI(t *testing.T, ca *pebbletest.CA, dir, rest string) string {
	t.Helper()
	file := filepath.Join(dir, "acmems.ini")
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	account, err := cert.MarshalKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "account"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "account", "account.pem"), account, 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("[account]\nacme-server=%s\ndir=%s\n%s", ca.DirectoryURL, filepath.Join(dir, "account"), rest)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func postCSR(t *testing.T, addr string, names ...string) (status int, chain string) {
	t.Helper()
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := cert.NewCSR(key, names)
	if err != nil {
		t.Fatal(err)
	}
	body := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/sign", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// serve with a configuration of ACMEMS registers its account (M49), listens where it says (M40),
// answers the CA at the port of its verification (M43, M44) and signs. After a restart, the
// account is the same.
func TestSignConfig(t *testing.T) {
	t.Parallel()
	ca := pebbletest.Start(t, pebbletest.Options{})
	dir := t.TempDir()
	file := signINI(t, ca, dir, fmt.Sprintf(`accept-terms-of-service=yes
colour=blue
[mgmt]
listener=127.0.0.1:0
[verification web]
type=http01
listener=127.0.0.1:%d
[auth web]
ip=127.0.0.0/8
domain=*.example.org
`, ca.HTTPPort))
	p := proxytest.Start(t, proxytest.Options{CA: ca, Change: func(cfg *proxy.Config) {
		cfg.HTTPAddr = "127.0.0.1:0"
		cfg.SignConfig = file
	}})
	account, err := os.ReadFile(filepath.Join(dir, "account", "registration.json"))
	if err != nil || !strings.Contains(string(account), `"uri"`) {
		t.Fatalf("%s %v", account, err)
	}
	addrs := p.SignAddrs()
	if len(addrs) != 2 {
		t.Fatalf("%v", addrs)
	}
	status, chain := postCSR(t, addrs[0], "a.example.org")
	block, _ := pem.Decode([]byte(chain + "\n"))
	if status != http.StatusOK || block == nil {
		t.Fatalf("%d %s", status, chain)
	}
	if leaf, err := x509.ParseCertificate(block.Bytes); err != nil || leaf.VerifyHostname("a.example.org") != nil {
		t.Errorf("%v", err)
	}
	if status, _ := postCSR(t, addrs[0], "a.example.com"); status != http.StatusForbidden {
		t.Errorf("%d", status)
	}
	const token = "/.well-known/acme-challenge/"
	for text, want := range map[string]int{ // M44
		"GET " + token + "unknown HTTP/1.1\r\nHost: a.example.org:5002\r\n\r\n": http.StatusNotFound,
		"HEAD " + token + "unknown HTTP/1.1\r\nHost: a.example.org\r\n\r\n":     http.StatusNotFound,
		"GET " + token + "unknown HTTP/1.1\r\n\r\n":                             http.StatusBadRequest,
	} {
		if resp, _ := rawhttp.Ask(t, addrs[1], text); resp.StatusCode != want {
			t.Errorf("%q: %s", text, resp.Status)
		}
	}
	if log := p.Log(); !strings.Contains(log, "[account] colour: unknown option") || !strings.Contains(log, "signing CSRs") {
		t.Error("the log has no warning or no address")
	}
	p.Restart(t)
	if again, err := os.ReadFile(filepath.Join(dir, "account", "registration.json")); err != nil || string(again) != string(account) {
		t.Errorf("%s %v", again, err)
	}
	if status, text := postCSR(t, p.SignAddrs()[0], "b.example.org"); status != http.StatusOK {
		t.Errorf("after a restart: %d %s", status, text)
	}
}

// A wildcard and its base are proven by signed dynamic updates at the second of two servers,
// and nothing remains in the zone (M45, M46, M47).
func TestSignConfigDNS(t *testing.T) {
	t.Parallel()
	const secret = "YWJjZGVmZGdoaWprbG1ub3BxcnN0dXZ3eHl6MTIzNDU="
	server := dnstest.Start(t, dnstest.Options{Zones: []string{"zone.example."}, Key: "sign-key.", Secret: secret})
	dead := dnstest.Start(t, dnstest.Options{Zones: []string{"zone.example."}})
	ca := pebbletest.Start(t, pebbletest.Options{Resolver: server.Addr})
	dir := t.TempDir()
	file := signINI(t, ca, dir, fmt.Sprintf(`accept-terms-of-service=yes
[mgmt]
listener=127.0.0.1:0
[verification dns]
type=dns01-dnsUpdate
dns-server=%s
dns-server=%s
ttl=5
tsig-key=sign-key
tsig-secret=%s
[auth dns]
all=yes
domain=*zone.example
`, dead.Addr, server.Addr, secret))
	p := proxytest.Start(t, proxytest.Options{CA: ca, Change: func(cfg *proxy.Config) {
		cfg.SignConfig = file
		cfg.DNSResolvers = []string{server.Addr}
	}})
	if status, text := postCSR(t, p.SignAddrs()[0], "*.zone.example", "zone.example"); status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
	const name = "_acme-challenge.zone.example."
	if left := server.TXT(name); server.Most(name) != 2 || len(left) > 0 {
		t.Errorf("%d values at one time, left behind: %q", server.Most(name), left)
	}
	if text := p.Log(); strings.Contains(text, secret) {
		t.Error("the log has the secret")
	}
}

// Faults of the configuration, and terms that are not accepted (M50), prevent the start. The
// message has the line, or the URL of the terms.
func TestSignConfigRefused(t *testing.T) {
	t.Parallel()
	ca := pebbletest.Start(t, pebbletest.Options{})
	const web = "[auth web]\nall=yes\ndomain=*\n[mgmt]\nlistener=\n[verification web]\n"
	p := proxytest.Start(t, proxytest.Options{CA: ca, Idle: true})
	for text, want := range map[string]string{
		web + "type=http01\nlistener=\n": "[account] accept-terms-of-service: the CA requires it; read data:text/plain",
		"accept-terms-of-service=https://ca.example.com/\n" + web + "type=http01\nlistener=\n": "accept-terms-of-service: the CA requires it",
		web + "type=tlsalpn\n":      `acmems.ini: line 10: [verification web] type: unknown type "tlsalpn"`,
		web + "type=dns01-server\n": "type dns01-server is for tests of ACMEMS only",
		"accept-terms-of-service=yes\n" + web + "type=http01\nlistener=192.0.2.1:80\n": "line 12: cannot listen",
	} {
		err := p.Refused(t, func(cfg *proxy.Config) { cfg.SignConfig = signINI(t, ca, t.TempDir(), text) })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
