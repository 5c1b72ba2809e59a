// Package responder answers HTTP-01 challenges (RFC 8555, section 8.3) on the port
// that the whole Internet can reach. It answers exact pairs of host and token only.
// Any other request gets a short 404 that repeats nothing of the request.
//
//	r := responder.New()
//	answer := r.Put("www.example.com", token, keyAuthorization)
//	defer answer.Remove()
//	<-answer.Fetched() // the CA has fetched it once
//
// Tokens are stored in memory only.
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

// Prefix is the path below which a CA fetches answers (RFC 8555, section 8.3).
const Prefix = "/.well-known/acme-challenge/"

// Responder holds the published answers. It is safe for concurrent use.
type Responder struct {
	mu      sync.RWMutex
	answers layer // guarded by mu
	lower   layer // answers of PutLower; guarded by mu
}

// layer holds the newest answer of each pair.
type layer map[key]*Answer

type key struct{ host, token string }

// New returns a responder without answers.
func New() *Responder {
	return &Responder{answers: layer{}, lower: layer{}}
}

// Answer is one published key authorization.
type Answer struct {
	responder *Responder
	layer     layer // guarded by responder.mu
	key       key
	body      string
	fetched   chan struct{}
	once      sync.Once

	older   *Answer // hidden answer of the same pair, or nil; guarded by responder.mu
	removed bool    // guarded by responder.mu
}

// Put publishes a key authorization for one host (a DNS name or IP address in
// any spelling) and token until Remove is called. A second Put of the same pair
// hides the first until it is removed. Two orders that share an authorization
// publish the same pair.
func (r *Responder) Put(host, token, keyAuthorization string) *Answer {
	return r.put(r.answers, host, token, keyAuthorization)
}

// PutLower publishes like Put, but every answer of Put for the same pair hides it.
func (r *Responder) PutLower(host, token, keyAuthorization string) *Answer {
	return r.put(r.lower, host, token, keyAuthorization)
}

func (r *Responder) put(l layer, host, token, keyAuthorization string) *Answer {
	a := &Answer{responder: r, layer: l, key: key{canonicalHost(host), token}, body: keyAuthorization, fetched: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	a.older = l[a.key]
	l[a.key] = a
	return a
}

// Has reports whether Put has published an answer for a pair. It ignores PutLower.
func (r *Responder) Has(host, token string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.answers[key{canonicalHost(host), token}] != nil
}

// Fetched returns a channel that is closed when the answer is first fetched. It is
// only a hint, because a CA may fetch from several places.
func (a *Answer) Fetched() <-chan struct{} { return a.fetched }

// SetFetched records that the answer was fetched elsewhere.
func (a *Answer) SetFetched() { a.once.Do(func() { close(a.fetched) }) }

// Remove removes the answer. Later requests get a 404. It may be called twice.
func (a *Answer) Remove() {
	a.responder.mu.Lock()
	defer a.responder.mu.Unlock()
	a.removed = true
	top := a.layer[a.key].current()
	for each := top; each != nil; each = each.older {
		each.older = each.older.current()
	}
	if top == nil {
		delete(a.layer, a.key)
		return
	}
	a.layer[a.key] = top
}

// current returns the newest answer from a on that is not removed, or nil. a may be
// nil.
func (a *Answer) current() *Answer {
	for a != nil && a.removed {
		a = a.older
	}
	return a
}

// Len returns the number of published pairs. A pair of both Put and PutLower counts
// twice.
func (r *Responder) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.answers) + len(r.lower)
}

// ServeHTTP answers GET and HEAD of published tokens. Other requests get a 404.
func (r *Responder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	token, ok := strings.CutPrefix(req.URL.Path, Prefix)
	if !ok || (req.Method != http.MethodGet && req.Method != http.MethodHead) {
		notFound(w)
		return
	}
	k := key{canonicalHost(req.Host), token}
	r.mu.RLock()
	a := r.answers[k]
	if a == nil {
		a = r.lower[k]
	}
	r.mu.RUnlock()
	if a == nil {
		notFound(w)
		return
	}
	w.Header()["Content-Type"] = contentType
	if req.Method == http.MethodHead {
		w.Header()["Content-Length"] = []string{strconv.Itoa(len(a.body))} // for GET, net/http sets it at less cost
		return
	}
	io.WriteString(w, a.body)
	a.SetFetched()
}

// contentType is shared between answers to save an allocation.
var contentType = []string{"text/plain"}

func notFound(w http.ResponseWriter) {
	w.Header()["Content-Type"] = contentType
	w.WriteHeader(http.StatusNotFound)
	io.WriteString(w, "not found\n")
}

// canonicalHost returns a host in lower case without its port. CAs send the name as
// ordered, other clients may not.
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

// mayBeAddress reports whether host may be an IP address. DNS names skip the parser,
// because its error is an allocation.
func mayBeAddress(host string) bool {
	if host == "" {
		return false
	}
	last := host[len(host)-1]
	return '0' <= last && last <= '9' || strings.IndexByte(host, ':') >= 0
}
