package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
)

// lifetime of certificates; autocert must be able to find a new one due for renewal.
const lifetime = 20 * 24 * time.Hour

// target is an ACME server that the clients use.
type target struct {
	name string
	// start prepares the target and returns a function that prepares the place of one
	// client there.
	start func(t *testing.T) func(*testing.T, kind) *site
}

var targets = []target{
	{"trusting", startLibrary(trusting)},
	{"challenged", startLibrary(challenged)},
	{"acmed", startAcmed},
	{"relay", startRelay},
}

// site is the place of one client at a target, with all that the client must know.
type site struct {
	directory string // URL
	trust     string // file with the root of the directory's server in PEM
	pool      *x509.CertPool
	kid, hmac string // external account binding; the HMAC key in base64url; empty: none
	domain    string // below which the client's names are
	three     []string
	dir       string // the client's data
	// solves: the client must answer the http-01 challenges on port. Otherwise the
	// authorizations are valid at once, and nothing may use port, which is taken.
	solves bool
	port   int

	roots    *x509.CertPool // of the certificates
	revoked  func(*testing.T, *big.Int) bool
	refusals []refusal
	check    func(*testing.T) // at the end; may be nil
}

// refusal is an order that is refused: label is the first label of its only name, detail a
// part of the message that clients must show.
type refusal struct{ label, detail string }

// newSite returns a site without what depends on the target.
func newSite(t *testing.T, k kind, solves bool) *site {
	t.Helper()
	s := &site{domain: k.name + ".example.com", dir: t.TempDir(), solves: solves}
	var err error
	if s.port, err = pebbletest.FreePort(); err != nil {
		t.Fatal(err)
	}
	if solves {
		s.three = s.names("three", "www", "mail")
		return s
	}
	s.three = s.names("three", "www", "*")
	// If the client does not need the port, it must not notice that it is taken.
	taken, err := net.Listen("tcp", s.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	return s
}

// address returns the address for answers to http-01 challenges.
func (s *site) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// setTrust lets the client trust the directory's server.
func (s *site) setTrust(t *testing.T, root []byte) {
	t.Helper()
	s.pool = x509.NewCertPool()
	s.pool.AppendCertsFromPEM(root)
	s.trust = filepath.Join(s.dir, "trust.pem")
	if err := os.WriteFile(s.trust, root, 0o600); err != nil {
		t.Fatal(err)
	}
}

// http returns an HTTP client that trusts the directory's server.
func (s *site) http(t *testing.T) *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.pool}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// webroot serves a folder as the answers to http-01 challenges, if there are challenges,
// and returns it.
func (s *site) webroot(t *testing.T) string {
	t.Helper()
	root := filepath.Join(s.dir, "webroot")
	wellKnown := filepath.Join(root, ".well-known", "acme-challenge")
	if err := os.MkdirAll(wellKnown, 0o700); err != nil {
		t.Fatal(err)
	}
	s.serve(t, http.FileServer(http.Dir(root)))
	return wellKnown
}

// serve answers http-01 challenges, if there are any.
func (s *site) serve(t *testing.T, h http.Handler) {
	t.Helper()
	if !s.solves {
		return
	}
	l, err := net.Listen("tcp", s.address())
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
}
