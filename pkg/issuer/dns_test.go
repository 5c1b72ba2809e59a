package issuer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/dnstest"
	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge/dns01"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
)

const (
	tsigKey    = "acmeproxy-key."
	tsigSecret = "YWJjZGVmZGdoaWprbG1ub3BxcnN0dXZ3eHl6MTIzNDU="
	txtName    = "_acme-challenge.zone.example."
)

// unsetProviders unsets the variables of DNS providers until the test ends.
func unsetProviders(t testing.TB) {
	t.Helper()
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		for _, prefix := range []string{"DNSUPDATE_", "RFC2136_", "EXEC_", "HTTPREQ_", "ACME_DNS_", "LEGO_"} {
			if strings.HasPrefix(name, prefix) {
				t.Setenv(name, "")
				os.Unsetenv(name)
			}
		}
	}
}

// startDNS is start with DNS-01 as the challenge, everything through one DNS
// server.
func startDNS(t testing.TB, provider string, opts dnstest.Options, change func(*testConfig), wrap ...func(http.Handler) http.Handler) (*env, *dnstest.Server) {
	t.Helper()
	opts.Zones = append(opts.Zones, "zone.example.")
	server := dnstest.Start(t, opts)
	if provider == "rfc2136" {
		t.Setenv("DNSUPDATE_NAMESERVER", server.Addr)
		t.Setenv("DNSUPDATE_TSIG_KEY", tsigKey)
		t.Setenv("DNSUPDATE_TSIG_ALGORITHM", "hmac-sha256.")
		if os.Getenv("DNSUPDATE_TSIG_SECRET") == "" {
			t.Setenv("DNSUPDATE_TSIG_SECRET", tsigSecret)
		}
	}
	ca := pebbletest.Options{Resolver: server.Addr}
	if len(wrap) > 0 {
		ca.Wrap = wrap[0]
	}
	e := start(t, ca, func(cfg *testConfig) {
		cfg.Challenge = acme.DNS01
		cfg.DNS = &dns01.Config{Provider: provider, Getenv: os.Getenv, Resolvers: []string{server.Addr}, Port: server.Port}
		if change != nil {
			change(cfg)
		}
	})
	t.Cleanup(func() { e.issuer.Close() })
	return e, server
}

// issueWildcardAndBase obtains a wildcard and its base in one certificate.
func issueWildcardAndBase(t testing.TB, e *env) {
	t.Helper()
	n := names(t, "zone.example", "*.zone.example")
	b, err := e.issuer.Issue(t.Context(), ec(n), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.Names(); err != nil || !got.Equal(n) {
		t.Errorf("certificate for %s (%v), want %s", got, err, n)
	}
}

// script creates a program for the exec provider that stores records in files.
func script(t testing.TB, body string) (program, dir string) {
	t.Helper()
	dir = t.TempDir()
	program = filepath.Join(t.TempDir(), "dns.sh")
	if err := os.WriteFile(program, []byte("#!/bin/sh -e\ncd "+dir+"\n"+body), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("EXEC_PATH", program)
	t.Setenv("EXEC_SEQUENCE_INTERVAL", "0")
	return program, dir
}

// D15: a hook publishes and removes. Unlike other hooks, it gets its own settings.
func TestExec(t *testing.T) {
	unsetProviders(t)
	t.Setenv("EXEC_TOKEN", "s3cret")
	_, dir := script(t, `
test "$EXEC_TOKEN" = s3cret
echo "$1" >> calls
case $1 in
present) echo "$3" > "$2" ;;
cleanup) test "$(cat "$2")" = "$3"; rm "$2" ;;
esac
`)
	e, server := startDNS(t, "exec", dnstest.Options{Dir: dir}, nil)
	issueWildcardAndBase(t, e)
	if values := server.TXT(txtName); len(values) != 0 {
		t.Errorf("left behind: %q", values)
	}
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil || string(calls) != "present\ncleanup\npresent\ncleanup\n" {
		t.Errorf("calls %q, %v; want one after the other, since there is one file for both values", calls, err)
	}
}

// A program that fails is asked to clean up, and the CA gets no request to validate.
func TestExecFails(t *testing.T) {
	unsetProviders(t)
	_, dir := script(t, `
echo "$1" >> calls
test "$1" = cleanup
`)
	e, _ := startDNS(t, "exec", dnstest.Options{Dir: dir}, nil)
	_, err := e.issuer.Issue(t.Context(), ec(names(t, "zone.example")), nil)
	if err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("got %v", err)
	}
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil || string(calls) != "present\ncleanup\n" {
		t.Errorf("calls %q, %v", calls, err)
	}
	if n := e.ca.Requests().Count(pebbletest.Challenge); n != 0 {
		t.Errorf("the CA was told to validate %d times", n)
	}
}

// M47: two values at one name, at the same time.
func TestHTTPReq(t *testing.T) {
	unsetProviders(t)
	var server *dnstest.Server
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct{ FQDN, Value string }
		user, password, _ := r.BasicAuth()
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil || user != "ops" || password != "s3cret" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		switch r.URL.Path {
		case "/dns/present":
			server.Add(m.FQDN, m.Value)
		case "/dns/cleanup":
			server.Remove(m.FQDN, m.Value)
		default:
			http.NotFound(w, r)
		}
	}))
	defer hook.Close()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HTTPREQ_ENDPOINT", hook.URL+"/dns")
	t.Setenv("HTTPREQ_USERNAME", "ops")
	t.Setenv("HTTPREQ_PASSWORD_FILE", password) // secrets may stay in files
	var e *env
	e, server = startDNS(t, "httpreq", dnstest.Options{}, nil)
	issueWildcardAndBase(t, e)
	if n := server.Most(txtName); n != 2 {
		t.Errorf("%d values at one time, want 2", n)
	}
	if values := server.TXT(txtName); len(values) != 0 {
		t.Errorf("left behind: %q", values)
	}
}

// acmeDNS imitates the API of joohoi's acme-dns. Each account has a name that stores
// the last two values.
type acmeDNS struct {
	mu     sync.Mutex
	server *dnstest.Server
	kept   []string // guarded by mu
}

func (a *acmeDNS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch r.URL.Path {
	case "/register":
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"username":"user","password":"pass","fulldomain":"sub.acme-dns.example","subdomain":"sub","allowfrom":[]}`)
	case "/update":
		var m struct{ Subdomain, Txt string }
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil || r.Header.Get("X-Api-User") != "user" || r.Header.Get("X-Api-Key") != "pass" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		if len(a.kept) == 2 {
			a.server.Remove(m.Subdomain+".acme-dns.example.", a.kept[0])
			a.kept = a.kept[1:]
		}
		a.kept = append(a.kept, m.Txt)
		a.server.Add(m.Subdomain+".acme-dns.example.", m.Txt)
		fmt.Fprintf(w, `{"txt":%q}`, m.Txt)
	}
}

// The first attempt reports the record that the zone needs, once. The next attempt
// succeeds through the CNAME (M47).
func TestACMEDNS(t *testing.T) {
	unsetProviders(t)
	api := &acmeDNS{}
	hook := httptest.NewServer(api)
	defer hook.Close()
	t.Setenv("ACME_DNS_API_BASE", hook.URL)
	t.Setenv("ACME_DNS_STORAGE_PATH", filepath.Join(t.TempDir(), "accounts.json"))
	e, server := startDNS(t, "acme-dns", dnstest.Options{
		Zones:  []string{"acme-dns.example."},
		CNAMEs: map[string]string{txtName: "sub.acme-dns.example."},
	}, nil)
	api.server = server
	_, err := e.issuer.Issue(t.Context(), ec(names(t, "zone.example")), nil)
	var failed *acme.Error
	if !errors.As(err, &failed) || failed.Kind != acme.Permanent || !strings.Contains(failed.Detail, "_acme-challenge.zone.example. CNAME sub.acme-dns.example.") {
		t.Fatalf("got %v, want the CNAME to add", err)
	}
	issueWildcardAndBase(t, e)
	if n := server.Most("sub.acme-dns.example."); n != 2 {
		t.Errorf("%d values at one time, want 2", n)
	}
}

// The wait for a record that does not appear ends with the provider's timeout, and
// the CA gets no request to validate.
func TestPropagationIsBounded(t *testing.T) {
	unsetProviders(t)
	_, dir := script(t, `echo "$1" >> calls`)
	t.Setenv("EXEC_PROPAGATION_TIMEOUT", "1")
	for _, whom := range []string{dns01.Nameservers, dns01.Resolvers} {
		e, _ := startDNS(t, "exec", dnstest.Options{Dir: dir}, func(cfg *testConfig) { cfg.DNS.Propagation = whom })
		_, err := e.issuer.Issue(t.Context(), ec(names(t, "zone.example")), nil)
		var failed *acme.Error
		if !errors.As(err, &failed) || failed.Kind != acme.Temporary || !strings.Contains(failed.Detail, "after 1s 127.0.0.1:") || !strings.Contains(failed.Detail, "--dns-propagation") {
			t.Errorf("%s: got %v", whom, err)
		}
		if n := e.ca.Requests().Count(pebbletest.Challenge); n != 0 {
			t.Errorf("%s: the CA was told to validate %d times", whom, n)
		}
	}
}

// The wait for a record ends when the issuance is cancelled.
func TestPropagationIsCancelled(t *testing.T) {
	unsetProviders(t)
	_, dir := script(t, `echo "$1" >> calls`)
	t.Setenv("EXEC_PROPAGATION_TIMEOUT", "600")
	e, server := startDNS(t, "exec", dnstest.Options{Dir: dir}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-server.Asked()
		cancel()
	}()
	before := time.Now()
	if _, err := e.issuer.Issue(ctx, ec(names(t, "zone.example")), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(before); took > 30*time.Second {
		t.Errorf("cancelled after %v", took)
	}
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil || string(calls) != "present\ncleanup\n" {
		t.Errorf("calls %q, %v; want the record removed", calls, err)
	}
}

// With HTTP-01 as the challenge, only wildcards take DNS-01, in the same order.
func TestWildcardBesideHTTP01(t *testing.T) {
	unsetProviders(t)
	e, server := startDNS(t, "rfc2136", dnstest.Options{Key: tsigKey, Secret: tsigSecret}, func(cfg *testConfig) { cfg.Challenge = acme.HTTP01 })
	issueWildcardAndBase(t, e)
	if zones, _ := server.Updates(); len(zones) != 2 {
		t.Errorf("%d updates, want one record put and taken", len(zones))
	}
}

// Names that the configured challenges cannot prove are refused before an order.
func TestCheckNames(t *testing.T) {
	unsetProviders(t)
	script(t, "")
	viaDNS := &dns01.Config{Provider: "exec", Getenv: os.Getenv, Propagation: dns01.None}
	for _, test := range []struct {
		name  string
		cfg   testConfig
		names []string
		want  string
	}{
		{"no DNS provider", testConfig{Responder: newResponder()}, []string{"a.example", "*.a.example"}, "--dns-provider"},
		{"DNS provider", testConfig{Responder: newResponder(), DNS: viaDNS}, []string{"a.example", "*.a.example", "192.0.2.1"}, ""},
		{"DNS only", testConfig{CAConfig: issuer.CAConfig{Challenge: acme.DNS01}, DNS: viaDNS}, []string{"192.0.2.1"}, "IP address"},
		{"DNS first", testConfig{CAConfig: issuer.CAConfig{Challenge: acme.DNS01}, DNS: viaDNS, Responder: newResponder()}, []string{"192.0.2.1", "*.a.example"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.DirectoryURL, test.cfg.Accounts = "https://ca.example/dir", &memoryAccounts{}
			is, err := newInstance(test.cfg)
			if err != nil {
				t.Fatal(err)
			}
			err = is.CheckNames(names(t, test.names...))
			var field *cert.FieldError
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (!errors.As(err, &field) || field.Field != "names" || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
