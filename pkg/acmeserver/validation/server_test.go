package validation_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	names "github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/localca"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/validation"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// host answers the challenges of one client.
type host struct {
	mu    sync.Mutex
	files map[string]string           // of http-01, by path; guarded by mu
	certs map[string]*tls.Certificate // of tls-alpn-01, by server name; guarded by mu
}

func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, known := h.files[r.URL.Path]; !known {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write([]byte(h.files[r.URL.Path]))
}

func (h *host) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.certs[hello.ServerName], nil
}

// answer publishes the answer to a challenge.
func (h *host) answer(t *testing.T, w *world, client *acme.Client, kind, name string, c *acme.Challenge) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	var err error
	var value string
	switch kind {
	case names.HTTP01:
		h.files[client.HTTP01ChallengePath(c.Token)], err = client.HTTP01ChallengeResponse(c.Token)
	case names.TLSALPN01:
		var made tls.Certificate
		made, err = client.TLSALPN01ChallengeCert(c.Token, name)
		h.certs[name] = &made
	case names.DNS01:
		value, err = client.DNS01ChallengeRecord(c.Token)
		w.add(t, "_acme-challenge."+strings.TrimPrefix(name, "*.")+". TXT "+value)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A client proves its names by each challenge to a whole server, which a local CA issues
// for (C7, C23).
func TestServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a.example.com. A 127.0.0.1", "b.example.com. A 127.0.0.1")
	h := &host{files: map[string]string{}, certs: map[string]*tls.Certificate{}}
	w.serveHTTP(t, []string{"127.0.0.1"}, h.ServeHTTP)
	w.serveTLS(t, &tls.Config{GetCertificate: h.certificate, NextProtos: []string{"acme-tls/1"}}, "127.0.0.1")
	client := newClient(t, w.Network)
	for kind, list := range map[string][]string{
		names.HTTP01: {"a.example.com", "b.example.com"}, names.TLSALPN01: {"a.example.com"}, names.DNS01: {"*.example.com", "a.example.com"},
	} {
		order, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs(list...))
		if err != nil {
			t.Fatal(err)
		}
		for _, url := range order.AuthzURLs {
			authz, err := client.GetAuthorization(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range authz.Challenges {
				if c.Type != kind {
					continue
				}
				h.answer(t, w, client, kind, authz.Identifier.Value, c)
				if _, err := client.Accept(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := client.WaitAuthorization(t.Context(), url); err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
		}
		key, err := cert.GenerateKey(cert.EC256)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := cert.NewCSR(key, list)
		if err != nil {
			t.Fatal(err)
		}
		chain, _, err := client.CreateOrderCert(t.Context(), order.FinalizeURL, csr, true)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		leaf, err := x509.ParseCertificate(chain[0])
		if err != nil || len(leaf.DNSNames) != len(list) {
			t.Errorf("%s: names %v, %v", kind, leaf.DNSNames, err)
		}
	}
}

// newClient returns a registered client of a new server.
func newClient(t *testing.T, network validation.Network) *acme.Client {
	t.Helper()
	ca, err := localca.Open(localca.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ca.Close() })
	mux := http.NewServeMux()
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)
	server, err := acmeserver.New(acmeserver.Config{
		URL: front.URL + "/acme", Storage: acmeserver.NewMemory(), Issuer: ca, Validators: validation.All(network),
	})
	if err != nil {
		t.Fatal(err)
	}
	mux.Handle("/acme/", server)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	client := &acme.Client{Key: key, DirectoryURL: front.URL + "/acme/directory", RetryBackoff: func(int, *http.Request, *http.Response) time.Duration { return 10 * time.Millisecond }}
	if _, err := client.Register(t.Context(), &acme.Account{}, acme.AcceptTOS); err != nil {
		t.Fatal(err)
	}
	return client
}
