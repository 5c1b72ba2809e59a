package relay

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// A client must not burden the account at the CA, which all clients share, with orders
// that the CA refuses. So the same names are refused here for a time that doubles from
// firstRefusal to longestRefusal. It begins again after refusalLife without a refusal.
const (
	firstRefusal   = time.Minute
	longestRefusal = 5 * time.Minute
	refusalLife    = time.Hour
	mostRefused    = 10_000
)

// mostReturns is the number of orders of a client and day that the CA may refuse without
// cost to the client's quota.
const mostReturns = 10

// refused remembers orders that the CA refused to create. The zero value is ready to use.
type refused struct {
	mu sync.Mutex
	by map[string]refusedOrder // by share; guarded by mu
}

type refusedOrder struct {
	wait    time.Duration
	until   time.Time
	problem *acme.Problem
}

// note remembers a refusal of now.
func (r *refused) note(share string, p *acme.Problem, now time.Time) {
	if share == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	wait := firstRefusal
	if before, ok := r.by[share]; ok && now.Before(before.until.Add(refusalLife)) {
		wait = min(2*before.wait, longestRefusal)
	}
	if r.by == nil {
		r.by = map[string]refusedOrder{}
	}
	for other := range r.by {
		if len(r.by) < mostRefused {
			break
		}
		delete(r.by, other)
	}
	r.by[share] = refusedOrder{wait, now.Add(wait), p}
}

// refuse returns the CA's problem if the order was refused a short time ago.
func (r *refused) refuse(share string, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.by[share]
	if !ok || !now.Before(known.until) {
		return nil
	}
	p := *known.problem
	p.Status = http.StatusForbidden // many clients send a request again after 429 and 500
	p.Detail = fmt.Sprintf("%s; this proxy asks the CA for these names again after %s",
		strings.TrimSuffix(p.Detail, "."), printable.Time(known.until))
	return &p
}

func (r *refused) forget(share string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.by, share)
}

func (r *refused) forgetAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.by = nil
}

// returns counts the quota that was returned to clients on one day. The zero value is
// ready to use.
type returns struct {
	mu  sync.Mutex
	day time.Time      // start of the UTC day; guarded by mu
	by  map[string]int // by client; guarded by mu
}

// take reports whether the client's quota may be returned once more.
func (r *returns) take(clientID string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if day := now.UTC().Truncate(24 * time.Hour); !day.Equal(r.day) {
		r.day, r.by = day, map[string]int{}
	}
	if r.by[clientID] >= mostReturns {
		return false
	}
	r.by[clientID]++
	return true
}

// refusedBefore returns the CA's problem if it should not be asked for an order now.
func (r *Relay) refusedBefore(share string) error {
	now := r.cfg.Now()
	if err := r.limited.refuse(share, now); err != nil {
		return err
	}
	return r.refused.refuse(share, now)
}
