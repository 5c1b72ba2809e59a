package pebbletest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"time"

	pebbleca "github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// maxBody is the size above which a request's body is refused.
const maxBody = 1 << 20

// Options holds the settings of an in-process [CA]. The zero value is a fast CA
// that accepts every account and injects no faults.
type Options struct {
	// HTTPPort is the port of 127.0.0.1 from which the CA fetches HTTP-01 answers,
	// for every name. If 0, it is a free one.
	HTTPPort int
	// TLSPort is the port of 127.0.0.1 from which the CA fetches TLS-ALPN-01
	// answers, for every name. If 0, it is a free one.
	TLSPort int
	// Resolver is the host:port of a DNS server. If empty, a server answers every
	// name with 127.0.0.1.
	Resolver string
	// RetryAfterAuthz and RetryAfterOrder are the seconds in the Retry-After
	// headers of pending authorizations and processing orders. 0 asks clients
	// not to wait.
	RetryAfterAuthz, RetryAfterOrder int
	// EAB holds the keys (base64url) of external account bindings by key
	// identifier. If it is not nil, every account needs a binding.
	EAB map[string]string
	// NonceReject is the percentage of good nonces that are rejected.
	NonceReject int
	// AuthzReuse is the percentage of identifiers for which a valid authorization of
	// the account is reused. With 0, Pebble still reuses 1 %. Use new names for each
	// order if that matters.
	AuthzReuse int
	// Profiles holds the certificates' lifetimes by profile name, in whole
	// seconds. An order without a profile gets any of them. If nil, "default" has
	// 90 days.
	Profiles map[string]time.Duration
	// AlternateRoots is the number of chains in addition to the default one.
	AlternateRoots int
	// Wrap returns a handler that replaces Pebble's, which it may call. It injects
	// faults: 429, 503, HTML, slow answers. It must be safe for concurrent use.
	// [Kind] returns the kind of a request.
	Wrap func(http.Handler) http.Handler
	// Log receives Pebble's log. If nil, [CA.Log] returns the end of it.
	Log io.Writer
}

// CA is a Pebble that runs inside this process.
type CA struct {
	// DirectoryURL is the URL of the ACME directory.
	DirectoryURL string
	// RootsPEM holds the roots of the certificates that the CA issues.
	RootsPEM []byte
	// ServerCAPEM is the root of the ACME server's own certificate.
	ServerCAPEM []byte
	// ServerCAFile is a file with ServerCAPEM, for LEGO_CA_CERTIFICATES.
	ServerCAFile string
	// HTTPPort is the port from which the CA fetches HTTP-01 answers.
	HTTPPort int
	// TLSPort is the port from which the CA fetches TLS-ALPN-01 answers.
	TLSPort int
	// Issuers holds the common names of the roots, that of the default chain first.
	Issuers  []string
	dns      *dns.Server
	requests *Counter
	store    *db.MemoryStore
	log      *tail
	server   *httptest.Server
	client   *http.Client
	dir      string
}

// New starts a CA. The caller must close it. One goroutine is never stopped, because
// Pebble cannot end it: va.VAImpl.processTasks.
func New(o Options) (_ *CA, err error) {
	ca := &CA{HTTPPort: o.HTTPPort, TLSPort: o.TLSPort, requests: &Counter{counts: make(map[string]int)}, log: &tail{}}
	defer func() {
		if err != nil {
			ca.Close()
		}
	}()

	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	if ca.TLSPort == 0 {
		ca.TLSPort = ports[0]
	}
	if ca.HTTPPort == 0 {
		ca.HTTPPort = ports[1]
	}
	var resolver string
	if ca.dns, resolver, err = startDNS(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = ca.log
	}
	if o.Resolver == "" {
		o.Resolver = resolver
	}
	handler, err := ca.newPebble(o)
	if err != nil {
		return nil, err
	}
	handler = serialize(handler)
	if o.Wrap != nil {
		handler = o.Wrap(handler)
	}
	if err := ca.serve(ca.requests.wrap(handler)); err != nil {
		return nil, err
	}
	return ca, nil
}

// serve starts the TLS server and sets everything that depends on it.
func (ca *CA) serve(handler http.Handler) error {
	cert, err := newServerCert()
	if err != nil {
		return err
	}
	ca.ServerCAPEM = cert.caPEM
	if ca.dir, err = os.MkdirTemp("", "pebbletest-"); err != nil {
		return fmt.Errorf("create a directory for the server's CA: %w", err)
	}
	ca.ServerCAFile = filepath.Join(ca.dir, "server-ca.pem")
	if err := os.WriteFile(ca.ServerCAFile, cert.caPEM, 0o600); err != nil {
		return fmt.Errorf("write the server's CA: %w", err)
	}
	tlsConfig, err := cert.tlsConfig()
	if err != nil {
		return err
	}
	ca.client = newClient(cert.caPEM, nil)
	ca.server = httptest.NewUnstartedServer(handler)
	ca.server.TLS = tlsConfig
	ca.server.EnableHTTP2 = true
	ca.server.Config.ErrorLog = log.New(ca.log, "server: ", 0)
	ca.server.StartTLS()
	ca.DirectoryURL = ca.server.URL + wfe.DirectoryPath
	return nil
}

// Close stops the CA. Requests that are being served are cut off.
func (ca *CA) Close() {
	if ca.server != nil {
		ca.client.CloseIdleConnections()
		ca.server.CloseClientConnections()
		ca.server.Close()
	}
	if ca.dns != nil {
		_ = ca.dns.Shutdown()
	}
	if ca.dir != "" {
		_ = os.RemoveAll(ca.dir)
	}
}

// Requests returns the counter of the requests that reached the server. It includes
// those that Wrap did not pass to Pebble.
func (ca *CA) Requests() *Counter { return ca.requests }

// HTTPClient returns a client that trusts the ACME server. All calls return
// the same one.
func (ca *CA) HTTPClient() *http.Client { return ca.client }

// Revoked reports whether the certificate with that serial number was revoked, and
// the reason (RFC 5280, section 5.3.1).
func (ca *CA) Revoked(serial *big.Int) (reason uint, revoked bool) {
	c := ca.store.GetRevokedCertificateBySerial(serial)
	if c == nil {
		return 0, false
	}
	if c.Reason != nil {
		reason = *c.Reason
	}
	return reason, true
}

// Log returns the end of Pebble's log, if Options.Log was nil.
func (ca *CA) Log() string { return ca.log.String() }

// pebbleEnv serializes the creation of Pebbles, which read some of their
// settings from the process's environment while they are created.
var pebbleEnv sync.Mutex

// newPebble returns the handler of a new Pebble and sets the roots of its
// certificates.
func (ca *CA) newPebble(o Options) (http.Handler, error) {
	pebbleEnv.Lock()
	defer pebbleEnv.Unlock()
	for _, kv := range environment(o.NonceReject, o.AuthzReuse) {
		if err := os.Setenv(kv[0], kv[1]); err != nil {
			return nil, fmt.Errorf("set %s: %w", kv[0], err)
		}
	}

	logger := log.New(o.Log, "", log.Ltime|log.Lmicroseconds)
	store := db.NewMemoryStore()
	for id, key := range o.EAB {
		if err := store.AddExternalAccountKeyByID(id, key); err != nil {
			return nil, fmt.Errorf("add external account binding key %q: %w", id, err)
		}
	}
	profiles := make(map[string]pebbleca.Profile)
	for name, p := range configProfiles(o.Profiles) {
		profiles[name] = pebbleca.Profile{Description: p.Description, ValidityPeriod: p.ValidityPeriod}
	}
	ca.store = store
	issuer := pebbleca.New(logger, store, "", "ecdsa", o.AlternateRoots, 1, profiles)
	validator := va.New(logger, ca.HTTPPort, ca.TLSPort, false, o.Resolver, store)
	frontend := wfe.New(logger, store, validator, issuer, []string{"pebble.letsencrypt.org"},
		false, o.EAB != nil, o.RetryAfterAuthz, o.RetryAfterOrder)
	for i := range o.AlternateRoots + 1 {
		root := issuer.GetRootCert(i)
		ca.RootsPEM = append(ca.RootsPEM, root.PEM()...)
		ca.Issuers = append(ca.Issuers, root.Cert.Subject.CommonName)
	}
	return frontend.Handler(), nil
}

// environment returns the variables that Pebble reads. They disable pauses before
// validations and random faults.
func environment(nonceReject, authzReuse int) [][2]string {
	return [][2]string{
		{"PEBBLE_VA_NOSLEEP", "1"},
		{"PEBBLE_WFE_NONCEREJECT", fmt.Sprint(nonceReject)},
		{"PEBBLE_AUTHZREUSE", fmt.Sprint(authzReuse)},
	}
}

// profile is a profile as in Pebble's configuration file; the validity is in
// seconds.
type profile struct {
	Description    string `json:"description"`
	ValidityPeriod uint64 `json:"validityPeriod"`
}

func configProfiles(lifetimes map[string]time.Duration) map[string]profile {
	if len(lifetimes) == 0 {
		lifetimes = map[string]time.Duration{"default": 90 * 24 * time.Hour}
	}
	profiles := make(map[string]profile)
	for name, lifetime := range lifetimes {
		profiles[name] = profile{Description: name, ValidityPeriod: uint64(lifetime / time.Second)}
	}
	return profiles
}

// serialize lets one request at a time into h, because Pebble's handlers lock
// orders, authorizations and the store in different sequences and deadlock
// when they run concurrently. The body is read before, so that a slow client does
// not delay others.
func serialize(h http.Handler) http.Handler {
	var mu sync.Mutex // guards h
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		mu.Lock()
		defer mu.Unlock()
		h.ServeHTTP(w, r)
	})
}

// newClient returns a new client that trusts the roots in rootsPEM. If dial is nil,
// it connects directly.
func newClient(rootsPEM []byte, dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(rootsPEM)
	return &http.Client{
		Transport: &http.Transport{
			DialContext:         dial,
			TLSClientConfig:     &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     time.Minute,
		},
		Timeout: time.Minute,
	}
}
