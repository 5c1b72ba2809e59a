package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// state is the relay's own state of an order or a certificate, stored as JSON.
type state struct {
	CA    string `json:"ca"`              // directory URL
	Order string `json:"order,omitempty"` // URL at the CA
}

func parseState(raw []byte) (s state) {
	if len(raw) > 0 && json.Unmarshal(raw, &s) != nil {
		return state{} // a new order is placed
	}
	return s
}

func (s state) encode() []byte {
	raw, err := json.Marshal(s)
	if err != nil {
		panic(err) // two texts
	}
	return raw
}

// unreachableLimit is how long an order waits for a CA that cannot be reached. After that,
// no client waits for it any more, and its certificate would not be collected.
const unreachableLimit = 15 * time.Minute

// unfinishedLimit is how long an order that the CA has waits for its certificate. CAs have
// left orders unfinished for days, while they would have issued a new one at once, and
// orders of the same names wait for this one.
const unfinishedLimit = time.Hour

// leastWait is how long an order waits after a rate limit that is over.
const leastWait = 5 * time.Second

// Issue implements acmeserver.Issuer. The order at the CA is journalled in the State of the
// client's order before it is worked on, and continued after a crash.
func (r *Relay) Issue(ctx context.Context, req acmeserver.IssueRequest) (acmeserver.Issued, error) {
	journal := parseState(req.Order.State)
	id, err := r.caller(ctx, req.Account, nil)
	if err != nil {
		return acmeserver.Issued{}, err
	}
	id.Addr = req.Addr // for the audit trail; Finalize has checked it
	ask := r.ask(id, req.CSR.Names, req.Order.Profile, policy.Renewal, req.CSR.KeyType)
	ask.At, ask.Costs = r.cfg.Audit.Now(), true
	if journal.Order == "" {
		if err := r.refusedBefore(req.Order.Share); err != nil { // since it was created
			r.counted.forget(req.Order.ID)
			return acmeserver.Issued{}, err
		}
		if err := r.count(ctx, req.Order, ask); err != nil {
			return acmeserver.Issued{}, err
		}
	}
	ca, release := r.cfg.CA()
	defer release()
	bundle, err := ca.Issue(ctx, cert.Request{
		Names: req.CSR.Names, CSR: req.CSR.DER, KeyType: req.CSR.KeyType, Profile: req.Order.Profile, Client: id.Client.ID,
		CA: known(ca, journal.CA), Alternates: true, Replaces: req.Order.Replaces, Order: cert.Order{CA: journal.CA, URL: journal.Order},
		OnOrder: func(ctx context.Context, o cert.Order) error {
			journal = state{CA: o.CA, Order: o.URL}
			return req.Save(ctx, journal.encode())
		},
	}, nil)
	if err != nil {
		return acmeserver.Issued{}, r.failed(ctx, req.Order, ask, journal, err)
	}
	r.counted.forget(req.Order.ID)
	r.refused.forget(req.Order.Share)
	if err := r.mayHave(ctx, req, ask); err != nil {
		return acmeserver.Issued{}, err
	}
	r.record(ctx, id, req.CSR.Names, trail.Done, "serial "+bundle.Serial())
	return acmeserver.Issued{Chain: bundle.FullchainPEM(), Alternates: bundle.AlternatesPEM(), State: state{CA: bundle.CA}.encode()}, nil
}

// known returns the name of a CA if it is still configured, or an empty one for the default.
func known(ca CA, name string) string {
	if ca.HasCA(name) {
		return name
	}
	return ""
}

// An order over the client's own pace waits for leastPace, and up to spreadPace longer. A
// client may have hundreds of them. Each attempt writes to the database, and only one a
// second can succeed.
const (
	leastPace  = 5 * time.Second
	spreadPace = 25 * time.Second
)

// count counts a new order at the CA against the client's quota, once.
func (r *Relay) count(ctx context.Context, o acmeserver.Order, ask audit.Ask) error {
	if !r.counted.begin(o.ID, ask) {
		return nil
	}
	err := r.cfg.Audit.Authorize(ctx, ask)
	if err == nil {
		return nil
	}
	r.counted.forget(o.ID)
	var pace *audit.TooSoon
	if errors.As(err, &pace) {
		wait := max(pace.RetryAt.Sub(r.cfg.Now()), leastPace) + rand.N(spreadPace)
		return &acmeserver.Later{After: wait, Reason: pace.Reason}
	}
	return r.refusal(err, ask.Request.Names)
}

// mayHave decides again before the certificate is handed out. The client may have been
// locked out, or lost a grant, while the CA was working.
func (r *Relay) mayHave(ctx context.Context, req acmeserver.IssueRequest, ask audit.Ask) error {
	id, err := r.caller(ctx, req.Account, nil)
	if err != nil {
		return err
	}
	id.Addr = req.Addr
	ask.By, ask.Costs = id, false
	if err := r.cfg.Audit.Authorize(ctx, ask); err != nil {
		return r.refusal(err, ask.Request.Names)
	}
	return nil
}

// failed returns what a failure at the CA means for the client's order: a problem that
// ends it, or an error after which it is tried again.
func (r *Relay) failed(ctx context.Context, o acmeserver.Order, ask audit.Ask, journal state, err error) error {
	var e *acme.Error
	if ctx.Err() != nil || !errors.As(err, &e) {
		return err
	}
	now := r.cfg.Now()
	wait := e.RetryAt.Sub(now)
	switch {
	case e.Kind == acme.RateLimited && !e.RetryAt.IsZero() && wait <= soon && !e.Final:
		// The CA's clock may be behind, and the time over.
		err = &acmeserver.Later{After: max(wait, leastWait), Reason: e.Error()}
	case e.Kind == acme.RateLimited:
		p := caProblem(e)
		p.Type, p.Status = acme.RateLimit, http.StatusForbidden
		r.limited.note(o.Share, p, e.RetryAt, now)
		return r.refuse(ctx, o, ask, e, p)
	case e.Kind == acme.Permanent, e.Final:
		return r.refuse(ctx, o, ask, e, caProblem(e))
	case journal.Order == "" && now.Sub(o.CreatedAt) > unreachableLimit:
		p := caProblem(e)
		p.Detail = fmt.Sprintf("the CA could not be used for %s; order again later: %s", unreachableLimit, p.Detail)
		return r.end(ctx, o, ask, e, p, !e.Ordered)
	case journal.Order != "" && now.Sub(o.CreatedAt) > unfinishedLimit:
		p := caProblem(e)
		p.Detail = fmt.Sprintf("the CA did not finish the order for %s; order again: %s", unfinishedLimit, p.Detail)
		return r.end(ctx, o, ask, e, p, false)
	case wait > 0:
		err = &acmeserver.Later{After: min(wait, 5*time.Minute), Reason: e.Error()}
	}
	if r.counted.failed(o.ID) {
		r.cfg.Logger.Warn("an order waits for the CA", "order", o.ID, "client", ask.By.Client.Name,
			"names", ask.Request.Names, "error", e)
		r.record(ctx, ask.By, ask.Request.Names, trail.Failed, e.Error()+"; it is tried again")
	}
	return err
}

// refuse ends an order that the CA refused. If there was no order there, the CA is not
// asked for the same names again for some time.
func (r *Relay) refuse(ctx context.Context, o acmeserver.Order, ask audit.Ask, e *acme.Error, p *acme.Problem) error {
	if e.Ordered {
		return r.end(ctx, o, ask, e, p, false)
	}
	r.refused.note(o.Share, p, r.cfg.Now())
	return r.end(ctx, o, ask, e, p, r.returns.take(ask.By.Client.ID, r.cfg.Audit.Now()))
}

// end records that the client's order failed, and returns its quota if it should.
func (r *Relay) end(ctx context.Context, o acmeserver.Order, ask audit.Ask, e *acme.Error, p *acme.Problem, returnQuota bool) error {
	if first, ok := r.counted.forget(o.ID); ok && returnQuota {
		if err := r.cfg.Audit.ReturnQuota(ctx, first); err != nil {
			r.cfg.Logger.Error("a request that came to no order counts against its quota", "error", err)
		}
	}
	r.record(ctx, ask.By, ask.Request.Names, trail.Failed, e.Error())
	return p
}

// record stores an entry about a certificate while the Server stores the order, so that
// one write to the disk does for both.
func (r *Relay) record(ctx context.Context, id clients.Identity, names cert.Names, outcome, detail string) {
	e := trail.By(id, "certificate")
	e.Mode, e.Names, e.Outcome, e.Detail = clients.ModeACME, names, outcome, detail
	r.recording.Go(func() { r.cfg.Audit.RecordLazily(ctx, e) })
}

// counted holds the orders that were counted against a quota, so that another attempt does
// not count again. The zero value is ready to use.
type counted struct {
	mu      sync.Mutex
	by      map[string]audit.Ask // by ID of the order; guarded by mu
	failing map[string]bool      // IDs of orders whose failure is recorded; guarded by mu
}

// mostCounted bounds the orders in memory. One that is forgotten may count twice.
const mostCounted = 10_000

// begin reports whether the order must be counted.
func (c *counted) begin(id string, ask audit.Ask) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.by[id]; ok {
		return false
	}
	if c.by == nil || len(c.by) >= mostCounted {
		c.by = map[string]audit.Ask{}
	}
	c.by[id] = ask
	return true
}

// failed reports whether this is the first failed attempt of an order. Those that follow
// would fill the audit trail.
func (c *counted) failed(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failing[id] {
		return false
	}
	if c.failing == nil || len(c.failing) >= mostCounted {
		c.failing = map[string]bool{}
	}
	c.failing[id] = true
	return true
}

// forget removes an order and returns how it was counted.
func (c *counted) forget(id string) (audit.Ask, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ask, ok := c.by[id]
	delete(c.by, id)
	delete(c.failing, id)
	return ask, ok
}

// limited remembers the rate limits of the CA, so that the next order is refused before
// the CA is asked again. The zero value is ready to use.
type limited struct {
	mu sync.Mutex
	by map[string]limit // by share; guarded by mu
}

type limit struct {
	until   time.Time
	problem *acme.Problem
}

// mostLimited bounds the limits in memory, and longestLimit their time: the CA may have
// changed its mind.
const (
	mostLimited  = 10_000
	longestLimit = 24 * time.Hour
)

func (l *limited) note(share string, p *acme.Problem, until, now time.Time) {
	if !until.After(now) || share == "" {
		return
	}
	if latest := now.Add(longestLimit); until.After(latest) {
		until = latest
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil || len(l.by) >= mostLimited {
		l.by = map[string]limit{}
	}
	l.by[share] = limit{until, p}
}

func (l *limited) refuse(share string, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	known, ok := l.by[share]
	if !ok {
		return nil
	}
	if !now.Before(known.until) {
		delete(l.by, share)
		return nil
	}
	p := *known.problem
	return &p
}
