package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

// clock is a time that tests advance.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ms.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	return c
}

func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

func openStore(t testing.TB, now func() time.Time) *store.Store {
	t.Helper()
	st, err := store.Open(context.Background(), store.Config{Path: filepath.Join(t.TempDir(), "acmeproxy.db"), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

func createClient(t testing.TB, st *store.Store, name string, credentials ...clients.Credential) clients.Client {
	t.Helper()
	c, err := st.CreateClient(context.Background(), clients.Client{Name: name}, credentials...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// selfSigned wraps key in a certificate. The serial distinguishes two of one key.
func selfSigned(t testing.TB, key *ecdsa.PrivateKey, serial int64) tls.Certificate {
	t.Helper()
	// Long expired: only the key counts.
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "client"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keyCredential(c tls.Certificate) clients.Credential {
	pin := SPKIPin(c.Leaf)
	return clients.Credential{Kind: clients.TLSKey, Verifier: pin[:]}
}

// answer holds the server's result for a request.
type answer struct {
	id  clients.Identity
	err error
}

// server authenticates over real TLS. call returns its result for a request.
type server struct {
	*httptest.Server
	got chan answer
}

func serve(t *testing.T, st *store.Store) *server {
	t.Helper()
	a := New(Config{Store: st})
	s := &server{got: make(chan answer, 1)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		id, err := a.Authenticate(r)
		s.got <- answer{id, err}
	}))
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *server) call(t *testing.T, cert *tls.Certificate, authorization ...string) (clients.Identity, error) {
	t.Helper()
	transport := s.Client().Transport.(*http.Transport).Clone()
	if cert != nil {
		transport.TLSClientConfig.Certificates = []tls.Certificate{*cert}
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range authorization {
		req.Header.Add("Authorization", v)
	}
	req.Header.Set("X-Forwarded-For", "203.0.113.9")
	req.Header.Set("Forwarded", "for=203.0.113.9")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	a := <-s.got
	return a.id, a.err
}

func wantRefused(t *testing.T, id clients.Identity, err error, reason Reason) *Error {
	t.Helper()
	var refused *Error
	if !errors.As(err, &refused) {
		t.Fatalf("error %v is no refusal", err)
	}
	if refused.Reason != reason {
		t.Errorf("reason %q, want %q", refused.Reason, reason)
	}
	if refused.Error() != (&Error{}).Error() {
		t.Errorf("text %q depends on the reason", refused)
	}
	if id.Client.ID != "" || id.Via != "" {
		t.Errorf("a refusal comes with the identity %+v", id)
	}
	return refused
}

var loopback = netip.MustParseAddr("127.0.0.1")

// A21: the key of the handshake is the credential, in any certificate.
func TestAuthenticateTLSKey(t *testing.T) {
	st := openStore(t, nil)
	key := newKey(t)
	first, renewed := selfSigned(t, key, 1), selfSigned(t, key, 2)
	want := createClient(t, st, "web1", keyCredential(first))
	createClient(t, st, "web2", keyCredential(selfSigned(t, newKey(t), 1)))
	s := serve(t, st)
	for _, c := range []tls.Certificate{first, renewed} {
		id, err := s.call(t, &c)
		if err != nil || id.Client.ID != want.ID || id.Client.Name != "web1" || id.Via != clients.TLSKey || id.Addr != loopback {
			t.Errorf("identity %+v, %v", id, err)
		}
	}
	stranger := selfSigned(t, newKey(t), 1)
	id, err := s.call(t, &stranger)
	if refused := wantRefused(t, id, err, ReasonUnknown); refused.Addr != loopback {
		t.Errorf("refused from %v", refused.Addr)
	}
}

// A21
func TestAuthenticateBearer(t *testing.T) {
	clk := newClock()
	st := openStore(t, clk.now)
	token, verifier := NewBearer()
	want := createClient(t, st, "script", clients.Credential{Kind: clients.Bearer, Verifier: verifier, ExpiresAt: clk.now().Add(time.Hour)})
	s := serve(t, st)
	stranger := selfSigned(t, newKey(t), 1)
	for _, tc := range []struct {
		cert          *tls.Certificate
		authorization string
	}{
		{nil, "Bearer " + token},
		{nil, "bearer  " + token + " "},
		{&stranger, "BEARER " + token}, // an unknown key does not matter
	} {
		id, err := s.call(t, tc.cert, tc.authorization)
		if err != nil || id.Client.ID != want.ID || id.Via != clients.Bearer || id.Addr != loopback {
			t.Errorf("%.10s: identity %+v, %v", tc.authorization, id, err)
		}
	}
	clk.advance(time.Hour)
	id, err := s.call(t, nil, "Bearer "+token)
	wantRefused(t, id, err, ReasonUnknown)
}

// A21, A27: everything that is not a valid credential is refused, with one text.
func TestAuthenticateRefuses(t *testing.T) {
	st := openStore(t, nil)
	token, verifier := NewBearer()
	other, _ := NewBearer()
	enroll := newEnroll(t, "https://acmeproxy.example.com")
	createClient(t, st, "script",
		clients.Credential{Kind: clients.Bearer, Verifier: verifier},
		clients.Credential{Kind: clients.Enrolment, Verifier: enroll.Verifier()})
	s := serve(t, st)
	stranger := selfSigned(t, newKey(t), 1)
	for name, tc := range map[string]struct {
		cert          *tls.Certificate
		authorization []string
		reason        Reason
	}{
		"nothing":        {nil, nil, ReasonNone},
		"unknown key":    {&stranger, nil, ReasonUnknown},
		"unknown token":  {nil, []string{"Bearer " + other}, ReasonUnknown},
		"both unknown":   {&stranger, []string{"Bearer " + other}, ReasonUnknown},
		"cut off":        {nil, []string{"Bearer " + token[:len(token)-1]}, ReasonMalformed},
		"too long":       {nil, []string{"Bearer " + token + "A"}, ReasonMalformed},
		"other scheme":   {nil, []string{"Basic " + token}, ReasonMalformed},
		"no scheme":      {nil, []string{token}, ReasonMalformed},
		"no token":       {nil, []string{"Bearer"}, ReasonMalformed},
		"empty token":    {nil, []string{"Bearer  "}, ReasonMalformed},
		"empty":          {nil, []string{""}, ReasonMalformed},
		"two tokens":     {nil, []string{"Bearer " + token + " " + token}, ReasonMalformed},
		"two headers":    {nil, []string{"Bearer " + token, "Bearer " + token}, ReasonMalformed},
		"enrol token":    {nil, []string{"Bearer " + enroll.String()}, ReasonMalformed},
		"malformed, key": {&stranger, []string{"Bearer x"}, ReasonMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := s.call(t, tc.cert, tc.authorization...)
			wantRefused(t, id, err, tc.reason)
			if strings.Contains(err.Error(), "apt1-") || strings.Contains(err.Error(), token[5:]) {
				t.Errorf("the error quotes a token: %v", err)
			}
		})
	}
}

// A disabled client is refused with the same text as an unknown one. The audit trail
// records its name.
func TestAuthenticateDisabled(t *testing.T) {
	st := openStore(t, nil)
	cert := selfSigned(t, newKey(t), 1)
	token, verifier := NewBearer()
	off := createClient(t, st, "off", keyCredential(cert), clients.Credential{Kind: clients.Bearer, Verifier: verifier})
	onToken, onVerifier := NewBearer()
	createClient(t, st, "on", clients.Credential{Kind: clients.Bearer, Verifier: onVerifier})
	if err := st.SetClientDisabled(t.Context(), off.ID, true); err != nil {
		t.Fatal(err)
	}
	s := serve(t, st)
	for name, call := range map[string]func() (clients.Identity, error){
		"key":    func() (clients.Identity, error) { return s.call(t, &cert) },
		"bearer": func() (clients.Identity, error) { return s.call(t, nil, "Bearer "+token) },
		"key of a disabled client, token of another": func() (clients.Identity, error) { return s.call(t, &cert, "Bearer "+onToken) },
	} {
		id, err := call()
		refused := wantRefused(t, id, err, ReasonDisabled)
		if refused.ClientID != off.ID || refused.ClientName != "off" {
			t.Errorf("%s: refused as %q", name, refused.ClientName)
		}
	}
	if err := st.SetClientDisabled(t.Context(), off.ID, false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.call(t, &cert); err != nil {
		t.Errorf("after it is enabled: %v", err)
	}
	if err := st.RemoveClient(t.Context(), off.ID); err != nil {
		t.Fatal(err)
	}
	id, err := s.call(t, &cert)
	wantRefused(t, id, err, ReasonUnknown)
}

// The key comes first when key and token belong to two clients.
func TestAuthenticateKeyBeforeToken(t *testing.T) {
	st := openStore(t, nil)
	cert := selfSigned(t, newKey(t), 1)
	token, verifier := NewBearer()
	createClient(t, st, "key", keyCredential(cert))
	createClient(t, st, "token", clients.Credential{Kind: clients.Bearer, Verifier: verifier})
	id, err := serve(t, st).call(t, &cert, "Bearer "+token)
	if err != nil || id.Client.Name != "key" {
		t.Errorf("identity %q, %v", id.Client.Name, err)
	}
}

// A certificate without a finished handshake proves nothing.
func TestAuthenticateUnfinishedHandshake(t *testing.T) {
	st := openStore(t, nil)
	cert := selfSigned(t, newKey(t), 1)
	createClient(t, st, "web1", keyCredential(cert))
	r := httptest.NewRequest(http.MethodGet, "https://acmeproxy.example.com/", nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert.Leaf}}
	id, err := New(Config{Store: st}).Authenticate(r)
	wantRefused(t, id, err, ReasonNone)
}

// A fault of the store is neither a refusal nor an admission.
func TestAuthenticateStoreFault(t *testing.T) {
	st := openStore(t, nil)
	token, _ := NewBearer()
	s := serve(t, st)
	st.Close()
	cert := selfSigned(t, newKey(t), 1)
	for name, call := range map[string]func() (clients.Identity, error){
		"key":    func() (clients.Identity, error) { return s.call(t, &cert) },
		"bearer": func() (clients.Identity, error) { return s.call(t, nil, "Bearer "+token) },
	} {
		id, err := call()
		var refused *Error
		if err == nil || errors.As(err, &refused) || id.Client.ID != "" {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
}

func TestRemoteAddr(t *testing.T) {
	for in, want := range map[string]netip.Addr{
		"192.0.2.1:1234":          netip.MustParseAddr("192.0.2.1"),
		"[::ffff:192.0.2.1]:1234": netip.MustParseAddr("192.0.2.1"),
		"[2001:db8::1]:1234":      netip.MustParseAddr("2001:db8::1"),
		"[fe80::1%eth0]:1234":     netip.MustParseAddr("fe80::1"),
		"@":                       {},
		"":                        {},
		"host:1234":               {},
	} {
		if got := RemoteAddr(&http.Request{RemoteAddr: in}); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

// An enrolment token leads to a key that authenticates.
func TestEnrolmentEndToEnd(t *testing.T) {
	clk := newClock()
	st := openStore(t, clk.now)
	made := newEnroll(t, "https://acmeproxy.example.com:443")
	want := createClient(t, st, "web1", clients.Credential{Kind: clients.Enrolment, Verifier: made.Verifier(), ExpiresAt: clk.now().Add(time.Hour)})
	copied, err := ParseEnrollToken(made.String())
	if err != nil {
		t.Fatal(err)
	}
	cert := selfSigned(t, newKey(t), 1)
	if _, err := st.Enroll(t.Context(), copied.Verifier(), keyCredential(cert), nil); err != nil {
		t.Fatal(err)
	}
	id, err := serve(t, st).call(t, &cert)
	if err != nil || id.Client.ID != want.ID {
		t.Errorf("identity %+v, %v", id, err)
	}
}
