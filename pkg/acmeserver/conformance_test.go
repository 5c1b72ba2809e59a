package acmeserver_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// The conformance suite speaks to the server as a client does, in raw JWS. It has each
// rule of RFC 8555, sections 6 and 7, of RFC 9773, and what real clients depend on. Its
// tests run on every storage, behind two Servers that take turns with each request, so
// nothing may depend on the instance that serves it.

// world is a server for one test.
type world struct {
	t       *testing.T // of the whole test
	url     string     // of the base
	cfg     acmeserver.Config
	ca      *testCA
	http    *http.Client
	dir     directory
	clock   atomic.Int64 // nanoseconds that the server's clock is ahead
	next    atomic.Int64 // counts requests
	outage  atomic.Bool  // the server may fail
	front   *httptest.Server
	mu      sync.Mutex // guards the fields below
	servers []*acmeserver.Server
	stop    []func()
}

type directory struct {
	NewNonce    string `json:"newNonce"`
	NewAccount  string `json:"newAccount"`
	NewOrder    string `json:"newOrder"`
	RevokeCert  string `json:"revokeCert"`
	KeyChange   string `json:"keyChange"`
	RenewalInfo string `json:"renewalInfo"`
	Meta        struct {
		TermsOfService          string            `json:"termsOfService"`
		Website                 string            `json:"website"`
		CAAIdentities           []string          `json:"caaIdentities"`
		ExternalAccountRequired *bool             `json:"externalAccountRequired"`
		Profiles                map[string]string `json:"profiles"`
	} `json:"meta"`
}

// conform runs a test on every storage. change adapts the configuration; by default all
// identifiers are authorized at once.
func conform(t *testing.T, change func(*acmeserver.Config), test func(t *testing.T, w *world)) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) acmeserver.Storage{
		"memory":     func(*testing.T) acmeserver.Storage { return acmeserver.NewMemory() },
		"SQLite":     openSQLite,
		"PostgreSQL": openPostgreSQL,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, open(t), change))
		})
	}
}

func newWorld(t *testing.T, storage acmeserver.Storage, change func(*acmeserver.Config)) *world {
	t.Helper()
	w := &world{t: t, ca: newTestCA(t)}
	w.front = httptest.NewUnstartedServer(w)
	w.url = "https://" + w.front.Listener.Addr().String() + "/acme"
	w.cfg = acmeserver.Config{
		URL: w.url, Storage: storage, Issuer: w.ca, Policy: acmeserver.Trusting{}, Now: w.now,
		Limits: acmeserver.Limits{FinalizeWait: time.Minute}, // until the CA has answered
	}
	if change != nil {
		change(&w.cfg)
	}
	w.start()
	w.front.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that are gone
	w.front.StartTLS()
	t.Cleanup(func() {
		w.front.Close()
		w.end()
	})
	w.http = w.front.Client()
	w.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	w.request(t, http.MethodGet, w.url+"/directory").want(http.StatusOK).decode(&w.dir)
	return w
}

// start starts two Servers on the storage. Without end before it, it is as if those
// before had hung or lost their network.
func (w *world) start() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.servers = nil
	for range 2 {
		s, err := acmeserver.New(w.cfg)
		if err != nil {
			w.t.Fatal(err)
		}
		w.servers = append(w.servers, s)
		w.stop = append(w.stop, watch.Run(w.t, s.Run))
	}
}

// end stops the Servers, as at the end of their process.
func (w *world) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, stop := range w.stop {
		stop()
	}
	w.stop = nil
}

// ServeHTTP passes requests to the Servers in turn.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	s := w.servers[w.next.Add(1)%2]
	w.mu.Unlock()
	s.ServeHTTP(rw, r)
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.clock.Load())) }
