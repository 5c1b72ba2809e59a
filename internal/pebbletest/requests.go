package pebbletest

import (
	"maps"
	"net/http"
	"strings"
	"sync"
)

// Kinds of requests to an ACME server, named as in RFC 8555 and RFC 9773.
const (
	Directory     = "directory"
	NewNonce      = "newNonce"
	NewAccount    = "newAccount"
	Account       = "account"
	KeyChange     = "keyChange"
	NewOrder      = "newOrder"
	Order         = "order"
	Orders        = "orders"
	Authorization = "authorization"
	Challenge     = "challenge"
	Finalize      = "finalize"
	Certificate   = "certificate"
	RevokeCert    = "revokeCert"
	RenewalInfo   = "renewalInfo"
	Other         = "other"
)

// kinds maps the first segments of Pebble's paths to kinds.
var kinds = map[string]string{
	"dir":                    Directory,
	"nonce-plz":              NewNonce,
	"sign-me-up":             NewAccount,
	"my-account":             Account,
	"rollover-account-key":   KeyChange,
	"order-plz":              NewOrder,
	"my-order":               Order,
	"list-orderz":            Orders,
	"authZ":                  Authorization,
	"chalZ":                  Challenge,
	"finalize-order":         Finalize,
	"certZ":                  Certificate,
	"revoke-cert":            RevokeCert,
	"draft-ietf-acme-ari-03": RenewalInfo,
}

// Kind returns the kind of r, for counters and for faults that affect one kind only.
func Kind(r *http.Request) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if kind, ok := kinds[first]; ok {
		return kind
	}
	return Other
}

// Counter counts requests by kind. It may be used concurrently.
type Counter struct {
	mu     sync.Mutex // guards counts
	counts map[string]int
}

// Count returns the number of requests of a kind.
func (c *Counter) Count(kind string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[kind]
}

// Total returns the number of all requests.
func (c *Counter) Total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	total := 0
	for _, n := range c.counts {
		total += n
	}
	return total
}

// Counts returns the number of requests by kind.
func (c *Counter) Counts() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.counts)
}

// Reset sets every count to zero.
func (c *Counter) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.counts)
}

// wrap returns a handler that counts every request before h serves it.
func (c *Counter) wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind := Kind(r)
		c.mu.Lock()
		c.counts[kind]++
		c.mu.Unlock()
		h.ServeHTTP(w, r)
	})
}
