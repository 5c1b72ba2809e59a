// Package responder answers HTTP-01 challenges (RFC 8555, section 8.3) on the
// one port that the whole Internet can reach. It knows exact pairs of host and
// token and nothing else: whatever else is asked for is a short 404 in which
// nothing of the request is repeated.
//
//	r := responder.New()
//	answer := r.Put("www.example.com", token, keyAuthorization)
//	defer answer.Remove()
//	<-answer.Fetched() // the CA has been here once
//
// Tokens live in memory only.
package responder

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
)

// Prefix is where HTTP-01 looks (RFC 8555, section 8.3).
const Prefix = "/.well-known/acme-challenge/"

// Responder is the table of challenges being answered. It is safe for
// concurrent use.
type Responder struct {
	mu      sync.RWMutex
	answers map[key]*Answer // guarded by mu
}

type key struct{ host, token string }

// New returns a responder that answers nothing yet.
func New() *Responder {
	return &Responder{answers: map[key]*Answer{}}
}

// Answer is one published key authorization.
type Answer struct {
	responder *Responder
	key       key
	body      string
	fetched   chan struct{}
	once      sync.Once

	older   *Answer // of the same pair, which this one hides; guarded by responder.mu
	removed bool    // guarded by responder.mu
}

// Put publishes a key authorization for one host (a DNS name or IP address in
// any spelling) and token until Remove is called. A second Put of the same pair
// hides the first while it is there: two orders may share an authorization.
func (r *Responder) Put(host, token, keyAuthorization string) *Answer {
	a := &Answer{responder: r, key: key{canonicalHost(host), token}, body: keyAuthorization, fetched: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	a.older = r.answers[a.key]
	r.answers[a.key] = a
	return a
}

// Fetched is closed when the answer was fetched for the first time. It is a
// hint: a CA may look from several places before it is satisfied.
func (a *Answer) Fetched() <-chan struct{} { return a.fetched }

// SetFetched says that it was fetched elsewhere.
func (a *Answer) SetFetched() { a.once.Do(func() { close(a.fetched) }) }

// Remove forgets the answer; from then on it is a 404. It may be called twice.
func (a *Answer) Remove() {
	a.responder.mu.Lock()
	defer a.responder.mu.Unlock()
	a.removed = true
	top := a.responder.answers[a.key].current()
	for each := top; each != nil; each = each.older {
		each.older = each.older.current()
	}
	if top == nil {
		delete(a.responder.answers, a.key)
		return
	}
	a.responder.answers[a.key] = top
}

// current is a, or the newest older one that is still there. a may be nil.
func (a *Answer) current() *Answer {
	for a != nil && a.removed {
		a = a.older
	}
	return a
}

// Len is the number of challenges being answered.
func (r *Responder) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.answers)
}

// ServeHTTP answers GET and HEAD of published tokens; all else is 404.
func (r *Responder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	token, ok := strings.CutPrefix(req.URL.Path, Prefix)
	if !ok || (req.Method != http.MethodGet && req.Method != http.MethodHead) {
		notFound(w)
		return
	}
	r.mu.RLock()
	a := r.answers[key{canonicalHost(req.Host), token}]
	r.mu.RUnlock()
	if a == nil {
		notFound(w)
		return
	}
	w.Header()["Content-Type"] = contentType
	if req.Method == http.MethodHead {
		w.Header()["Content-Length"] = []string{strconv.Itoa(len(a.body))} // for GET, the server counts cheaper
		return
	}
	io.WriteString(w, a.body)
	a.SetFetched()
}

// contentType is shared between answers: a slice less for each.
var contentType = []string{"text/plain"}

func notFound(w http.ResponseWriter) {
	w.Header()["Content-Type"] = contentType
	w.WriteHeader(http.StatusNotFound)
	io.WriteString(w, "not found\n")
}

// canonicalHost strips a port and folds case: CAs send the name as ordered,
// others do not.
func canonicalHost(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		} else {
			host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		}
	}
	host = strings.TrimSuffix(host, ".")
	if mayBeAddress(host) {
		if addr, err := netip.ParseAddr(host); err == nil {
			return addr.Unmap().String()
		}
	}
	return strings.ToLower(host)
}

// mayBeAddress spares DNS names the parser, whose error is an allocation.
func mayBeAddress(host string) bool {
	if host == "" {
		return false
	}
	last := host[len(host)-1]
	return '0' <= last && last <= '9' || strings.IndexByte(host, ':') >= 0
}
