package sign_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmems"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/sign"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	modesign "github.com/acmeproxy/acmeproxy/pkg/modes/sign"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// lab is the interface in front of an issuer, with the rules of an ACMEMS configuration.
type lab struct {
	url, addr string
	store     *store.Store
	door      *modesign.Door
	later     atomic.Int64 // the clock is ahead by this much
	log       bytes.Buffer // read it after the door is closed only
}

// issuerFunc is an issuer.
type issuerFunc func(ctx context.Context, req cert.Request) (*cert.Bundle, error)

func (f issuerFunc) Issue(ctx context.Context, req cert.Request, _ func(acme.Event)) (*cert.Bundle, error) {
	return f(ctx, req)
}

func newLab(t testing.TB, is modesign.Issuer, ini string) *lab {
	t.Helper()
	rules, err := acmems.Parse([]byte("[account]\ndir=/nowhere\n" + ini))
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{}
	now := func() time.Time { return time.Now().Add(time.Duration(l.later.Load())) }
	if l.store, err = store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "acmeproxy.db"), Now: now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.store.Close() })
	logger := slog.New(slog.NewTextHandler(&l.log, nil))
	l.door = modesign.New(modesign.Config{
		Rules: rules, Audit: audit.New(audit.Config{Store: l.store, Logger: logger, Now: now}), Logger: logger,
		Issuer: func(acmems.Verification) (modesign.Issuer, func()) { return is, func() {} },
	})
	s := httptest.NewServer(sign.New(sign.Config{Begin: l.door.Begin, MaxSize: rules.MaxSize, Logger: logger, Now: now}))
	t.Cleanup(func() {
		s.Close()
		l.door.Close(t.Context())
	})
	l.url, l.addr = s.URL, s.Listener.Addr().String()
	return l
}

func (l *lab) audit(t *testing.T) []trail.Entry {
	t.Helper()
	entries, err := l.store.Audit(t.Context(), trail.Query{})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// answer is an answer with its body.
type answer struct {
	*http.Response
	body string
}

// post sends a CSR with further headers, each as "name: value".
func (l *lab) post(t testing.TB, csr []byte, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, l.url+"/sign", bytes.NewReader(csr))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp, string(body)}
}

// chain returns the certificates of an answer, which must be one of ACMEMS.
func chain(t *testing.T, a answer) []*x509.Certificate {
	t.Helper()
	if a.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", a.Status, a.body)
	}
	var all []*x509.Certificate
	for i, text := range strings.Split(a.body, "\n\n") {
		block, rest := pem.Decode([]byte(text + "\n"))
		if block == nil || len(rest) > 0 || !strings.HasPrefix(text, "-----BEGIN") {
			t.Fatalf("part %d is not a certificate: %q", i, text)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	if len(all) != 2 || !strings.HasSuffix(a.body, "-") {
		t.Fatalf("%d certificates, and at the end %q", len(all), a.body[len(a.body)-3:])
	}
	if a.Header.Get("Content-Type") != "text/plain" || a.ContentLength != int64(len(a.body)) {
		t.Errorf("%v, %d bytes announced", a.Header, a.ContentLength)
	}
	return all
}

func newKey(t testing.TB, kind cert.KeyType) crypto.Signer {
	t.Helper()
	key, err := cert.GenerateKey(kind)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newCSR returns a CSR in PEM. An empty common name is left out.
func newCSR(t testing.TB, key crypto.Signer, common string, names ...string) []byte {
	t.Helper()
	return encodeCSR(t, key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: common}, DNSNames: names})
}

func encodeCSR(t testing.TB, key crypto.Signer, template *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// signed returns the header with the HMAC of a body.
func signed(key string, body []byte) string {
	h := hmac.New(sha256.New, []byte(key))
	h.Write(body)
	return "Authentication: hmac name=sha256, hash=" + hex.EncodeToString(h.Sum(nil))
}

// account stores one account at a CA.
type account struct {
	key crypto.Signer
	url atomic.Pointer[string]
}

func (a *account) Account(context.Context, string) (crypto.Signer, string, string, error) {
	if url := a.url.Load(); url != nil {
		return a.key, *url, "", nil
	}
	return a.key, "", "", nil
}

func (a *account) SetURL(_ context.Context, _, url, _ string) error {
	a.url.Store(&url)
	return nil
}

// pebble is an issuer with a Pebble that validates at a responder.
type pebble struct {
	*issuer.Pool
	ca *pebbletest.CA
}

func startPebble(t testing.TB, o pebbletest.Options) pebble {
	t.Helper()
	ca := pebbletest.Start(t, o)
	answers := responder.New()
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ca.HTTPPort))
	if err != nil {
		t.Fatal(err)
	}
	port80 := &http.Server{Handler: answers, ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- port80.Serve(listener) }()
	t.Cleanup(func() {
		port80.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.ServerCAPEM)
	solver := challenge.FromMemory(acme.HTTP01, challenge.Memory{HTTP01: answers})
	pool, err := issuer.NewPool(issuer.PoolConfig{CAs: []issuer.CAConfig{{
		DirectoryURL: ca.DirectoryURL, Accounts: &account{key: newKey(t, cert.EC256)}, AcceptTOS: true, RootCAs: roots,
		UserAgent: "acmeproxy/test", Solvers: map[string]challenge.Solver{acme.HTTP01: solver},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	return pebble{pool, ca}
}

func (p pebble) orders() int { return p.ca.Requests().Count(pebbletest.NewOrder) }
