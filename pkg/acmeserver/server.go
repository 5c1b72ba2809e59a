package acmeserver

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// Config holds the parts and limits of a Server.
type Config struct {
	// URL is the base of all URLs, such as https://ca.example.com/acme, without a slash
	// at the end. The directory is at URL/directory. It must be set. Requests must arrive
	// with its path, also behind another server.
	URL     string
	Storage Storage // must be set
	Issuer  Issuer  // must be set; SetIssuer replaces it
	// Policy decides about orders. If nil, it is Challenged with the types of Validators.
	Policy Policy
	// Accounts decides about accounts. If nil, it is AnyAccount.
	Accounts Accounts
	// Validators are the validators by type of challenge.
	Validators map[string]Validator
	// Sealer encrypts certificates before they are stored. If nil, they are not encrypted.
	Sealer Sealer

	// Terms is the URL of the terms of service; empty: none. When it changes, clients must
	// agree to it again.
	Terms         string
	Website       string            // URL for people; may be empty
	CAAIdentities []string          // RFC 8555, section 7.1.1
	Profiles      map[string]string // descriptions of the profiles by name
	// Meta, if it is not nil, is asked at each use for the CAA identities and the
	// profiles, instead of the two fields above. It must be fast.
	Meta func(ctx context.Context) Meta
	// Dates allows orders with notBefore and notAfter.
	Dates bool

	Limits Limits
	// Owner names this Server among all that share the Storage. If empty, it is random.
	Owner string
	// Logger gets an event "request" for each request: method, route, status, problem, took.
	// Its level is debug, info if the client did something wrong, warn if the Server failed.
	// It has no names, keys or tokens. If a registration is refused, it also has from, kid
	// and reason. Other events are failures of the issuer, a validator or the storage, with
	// the order, its owner, account and names, and the error. If nil, nothing is logged.
	Logger *slog.Logger
	Now    func() time.Time // time.Now if nil; must be safe for concurrent use
}

// Meta holds the directory's metadata of the CA.
type Meta struct {
	CAAIdentities []string
	Profiles      map[string]string
	// RetryAfter is set while the metadata has never been known, and is the time until it
	// may be. Orders with a profile are refused until then.
	RetryAfter time.Duration
}

// meta returns what the directory says about the CA at present.
func (s *Server) meta(ctx context.Context) Meta {
	if s.cfg.Meta != nil {
		return s.cfg.Meta(ctx)
	}
	return Meta{CAAIdentities: s.cfg.CAAIdentities, Profiles: s.cfg.Profiles}
}

// Limits bounds what clients can use. A zero field is its default.
type Limits struct {
	Body         int64         // bytes of a request; 128 KiB
	Identifiers  int           // of an order; 100
	Contacts     int           // of an account; 10
	Accounts     int           // of one owner, of any status; 1000
	Orders       int           // of one owner that are not expired: unfinished, failed and Joined ones; 300
	OrderLife    time.Duration // of an order until it is finished; 24 hours
	NonceLife    time.Duration // one hour
	FinalizeWait time.Duration // how long finalize waits for the certificate; 4 seconds
	Validations  int           // at a time; 32
	Issuances    int           // at a time; 64
	Keep         time.Duration // how long ended records are kept at least; 7 days
}

// Sealer encrypts what is stored. It may be used concurrently.
type Sealer interface {
	Seal(plain []byte) ([]byte, error)
	Open(sealed []byte) ([]byte, error)
}

// Server is an ACME server. It is safe for concurrent use.
type Server struct {
	cfg    Config
	base   string // the path of the URL
	mux    *http.ServeMux
	nonces *nonces
	keys   parsedKeys
	issuer atomic.Pointer[Issuer]
	loop   *work.Loop
	turns  *turns        // orders in progress in this process
	events *rate.Limiter // of log events about refused requests
}

// New checks the configuration. It does not use the storage yet.
func New(cfg Config) (*Server, error) {
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") ||
		u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, errors.New("acmeserver: URL must be like https://ca.example.com/acme")
	case !isClean(strings.TrimSuffix(u.Path, "/")):
		return nil, errors.New("acmeserver: URL has a path with //, . or ..; use a plain one")
	case cfg.Storage == nil:
		return nil, errors.New("acmeserver: Storage must be set")
	case cfg.Issuer == nil:
		return nil, errors.New("acmeserver: Issuer must be set")
	}
	cfg.setDefaults()
	s := &Server{cfg: cfg, base: strings.TrimSuffix(u.EscapedPath(), "/"), turns: newTurns(cfg.Limits)}
	s.events = rate.NewLimiter(eventsEvery, eventsAtOnce)
	s.cfg.URL = strings.TrimSuffix(cfg.URL, "/")
	s.nonces = &nonces{storage: cfg.Storage, life: cfg.Limits.NonceLife, now: cfg.Now}
	s.SetIssuer(cfg.Issuer)
	workers := 2 * (cfg.Limits.Validations + cfg.Limits.Issuances) // half of them may wait for a place
	s.loop = work.NewLoop(orders{s}, workers, cfg.Now, cfg.Logger)
	s.mux = s.routes()
	return s, nil
}

func (c *Config) setDefaults() {
	l := &c.Limits
	l.Body = cmp.Or(l.Body, 128<<10)
	l.Identifiers = cmp.Or(l.Identifiers, 100)
	l.Contacts = cmp.Or(l.Contacts, 10)
	l.Accounts = cmp.Or(l.Accounts, 1000)
	l.Orders = cmp.Or(l.Orders, 300)
	l.OrderLife = cmp.Or(l.OrderLife, 24*time.Hour)
	l.NonceLife = cmp.Or(l.NonceLife, time.Hour)
	l.FinalizeWait = cmp.Or(l.FinalizeWait, 4*time.Second)
	l.Validations = cmp.Or(l.Validations, 32)
	l.Issuances = cmp.Or(l.Issuances, 64)
	l.Keep = cmp.Or(l.Keep, 7*24*time.Hour)
	if c.Accounts == nil {
		c.Accounts = AnyAccount{}
	}
	if c.Policy == nil {
		c.Policy = Challenged{Types: challengeTypes(c.Validators)}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Owner = cmp.Or(c.Owner, newID())
}

// SetIssuer replaces the issuer. Calls in progress end with the previous one.
func (s *Server) SetIssuer(i Issuer) { s.issuer.Store(&i) }

// Run validates challenges and continues orders until ctx ends, and then waits for those
// in progress. Call it once. Without it, finalize still issues, but no challenge is
// validated, and an order is not continued after a failure.
func (s *Server) Run(ctx context.Context) {
	var others sync.WaitGroup
	others.Go(func() { s.purge(ctx) })
	others.Go(func() { s.turns.stopAfter(ctx) })
	s.loop.Run(ctx)
	others.Wait()
}

// url returns the URL of a path below the base.
func (s *Server) url(path string) string { return s.cfg.URL + path }
