// Package checks tells clients whether a CA could validate their names. It decides who
// may ask, how often, and to which addresses the proxy connects for a client.
//
//	c := checks.New(checks.Config{Audit: log, Run: checker.Run, …})
//	report, err := c.Check(ctx, caller, []string{"web1.example.com"})
//
// Each check costs the proxy DNS questions and connections. It must never check a name
// that is not granted to the caller, and never connect to an address for a client that
// a CA could not reach, unless it is the proxy's own.
package checks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/fair"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/preflight"
	"github.com/acmeproxy/acmeproxy/pkg/publicip"
)

// Action is the action of audit entries about refused checks.
const Action = "check"

// The limits of a client's checks. Others than these are in packages api and preflight.
const (
	burst   = 4 * api.MaxCheckNames // names that a client may check at once
	every   = 10 * time.Second      // one more name
	busyFor = 5 * time.Second       // until the next attempt while all places are taken
)

// places limits the checks in progress. One client has one.
var places = fair.Limits{Total: 4, PerClient: 1, Reserve: 4}

// Config holds the dependencies of Checks.
type Config struct {
	// Authorize decides whether the caller may check a name and records a refusal.
	Authorize func(context.Context, audit.Ask) error
	// Run checks canonical names.
	Run func(ctx context.Context, names []string) (preflight.Report, error)
	Now func() time.Time // if nil, time.Now
	// Timeout limits the checks of one call; if 0, [api.MaxCheck].
	Timeout time.Duration
}

// Checks checks names for clients. It is safe for concurrent use.
type Checks struct {
	cfg    Config
	places *fair.Places

	mu       sync.Mutex               // guards byClient
	byClient map[string]*rate.Limiter // by client ID
}

// New creates Checks.
func New(cfg Config) *Checks {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, api.MaxCheck)
	return &Checks{cfg: cfg, places: fair.New(places), byClient: map[string]*rate.Limiter{}}
}

// Check checks names for a client, each of which must be granted to it, in any mode.
// Errors are *cert.FieldError, *policy.Denied, *audit.TooSoon and those of Run.
func (c *Checks) Check(ctx context.Context, by clients.Identity, list []string) (preflight.Report, error) {
	names, err := parse(list)
	if err != nil {
		return preflight.Report{}, err
	}
	for _, name := range names {
		// Modes and key types do not count, as for a revocation.
		err := c.cfg.Authorize(ctx, audit.Ask{By: by, Action: Action, Request: policy.Request{
			Names: cert.Names{name}, Purpose: policy.Revocation,
		}})
		if err != nil {
			return preflight.Report{}, err
		}
	}
	release, ok := c.places.Try(by.Client.ID)
	if !ok {
		return preflight.Report{}, &audit.TooSoon{Reason: "too many checks are in progress", RetryAt: c.cfg.Now().Add(busyFor)}
	}
	defer release()
	if err := c.pace(by.Client.ID, len(names)); err != nil {
		return preflight.Report{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	return c.cfg.Run(ctx, names)
}

// parse returns the canonical names in their order, each once.
func parse(list []string) (names []string, err error) {
	var faults []error
	for _, text := range list {
		name, err := cert.ParseName(text)
		switch {
		case err != nil:
			faults = append(faults, err)
		case !slices.Contains(names, name):
			names = append(names, name)
		}
	}
	switch {
	case len(list) == 0:
		faults = append(faults, errors.New("missing; write at least one"))
	case len(list) > api.MaxCheckNames:
		faults = []error{fmt.Errorf("%d are too many; write at most %d at a time", len(list), api.MaxCheckNames)}
	}
	if len(faults) > 0 {
		return nil, &cert.FieldError{Field: "names", Err: errors.Join(faults...)}
	}
	return names, nil
}

// pace counts names against the client's rate.
func (c *Checks) pace(clientID string, names int) error {
	now := c.cfg.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	limiter := c.byClient[clientID]
	if limiter == nil {
		limiter = rate.NewLimiter(rate.Every(every), burst)
		c.byClient[clientID] = limiter
	}
	r := limiter.ReserveN(now, names)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return &audit.TooSoon{Reason: "this client checked many names within a short time", RetryAt: now.Add(wait)}
	}
	return nil
}

// Refuse returns why the proxy does not connect to an address for a client, or an empty
// string if it does. own reports whether the proxy's port 80 is at an address. A CA
// reaches public addresses only; all others may be internal servers, about which a
// client must learn nothing.
func Refuse(addr netip.Addr, own func(netip.Addr) bool) string {
	kind := publicip.Special(addr)
	if kind == "" || own(addr.Unmap()) {
		return ""
	}
	return "a CA cannot reach it (" + kind + "), and it is not this proxy's"
}
