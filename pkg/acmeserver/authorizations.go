package acmeserver

import (
	"context"
	"net/netip"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// challenge returns the challenge of a type, or nil.
func (a *Authorization) challenge(kind string) *Challenge {
	for i := range a.Challenges {
		if a.Challenges[i].Type == kind {
			return &a.Challenges[i]
		}
	}
	return nil
}

// authorization returns an authorization, or deactivates it (RFC 8555, sections 7.5 and
// 7.5.2).
func (s *Server) authorization(ctx context.Context, r *request) (*answer, error) {
	if r.asGet() {
		o, err := s.ownOrder(ctx, r)
		if err != nil {
			return nil, err
		}
		n, err := o.index(r)
		if err != nil {
			return nil, err
		}
		return s.describeAuthorization(&o, n), nil
	}
	var in struct {
		Status Status `json:"status"`
	}
	if err := decode(r.payload, &in); err != nil {
		return nil, err
	}
	if in.Status != StatusDeactivated {
		return nil, problem(acme.Malformed, 0, "status: only deactivated can be set")
	}
	var n int
	o, err := s.editOrder(ctx, r, func(o *Order) (err error) {
		if n, err = o.index(r); err != nil {
			return err
		}
		return o.deactivate(n, s.cfg.Now())
	})
	if err != nil {
		return nil, err
	}
	return s.describeAuthorization(&o, n), nil
}

// deactivate gives up an authorization. An order that is not finalized becomes invalid.
func (o *Order) deactivate(n int, now time.Time) error {
	authz := &o.Authorizations[n]
	switch {
	case authz.Status == StatusDeactivated:
		return errUnchanged
	case authz.Status != StatusPending && authz.Status != StatusValid:
		return problem(acme.Malformed, 0, "the authorization is "+string(authz.Status)+", so it cannot be deactivated")
	case o.isOver(now):
		return problem(acme.Malformed, 0, "the authorization has expired, so it cannot be deactivated")
	}
	authz.Status = StatusDeactivated
	o.advance()
	if o.Status == StatusInvalid && o.Error == nil {
		o.Error = problem(acme.Unauthorized, 0, "the client deactivated the authorization of "+authz.full().Value)
	}
	o.schedule()
	return nil
}

// challenge returns a challenge, or asks for its validation (RFC 8555, section 7.5.1).
func (s *Server) challenge(ctx context.Context, r *request) (*answer, error) {
	var n int
	find := func(o *Order) (c *Challenge, err error) {
		if n, err = o.index(r); err != nil {
			return nil, err
		}
		if c = o.Authorizations[n].challenge(r.PathValue("type")); c == nil {
			return nil, notFound("challenge")
		}
		return c, nil
	}
	if r.asGet() {
		o, err := s.ownOrder(ctx, r)
		if err != nil {
			return nil, err
		}
		c, err := find(&o)
		if err != nil {
			return nil, err
		}
		return s.describeChallenge(&o, n, c), nil
	}
	if err := decode(r.payload, &struct{}{}); err != nil { // some clients send a key authorization
		return nil, err
	}
	o, err := s.editOrder(ctx, r, func(o *Order) error {
		c, err := find(o)
		if err != nil {
			return err
		}
		return o.begin(n, c, r.addr, s.cfg.Now())
	})
	if err != nil {
		return nil, err
	}
	c, err := find(&o)
	if err != nil {
		return nil, err
	}
	if c.Status == StatusProcessing {
		s.loop.Wake()
	}
	return s.describeChallenge(&o, n, c), nil
}

// soonest is the earliest next attempt if a client asks again for a validation that is
// in progress (RFC 8555, section 8.2). So a client cannot make a
// validator flood others.
const soonest = 5 * time.Second

// begin makes the validation of a challenge due.
func (o *Order) begin(n int, c *Challenge, addr netip.Addr, now time.Time) error {
	switch {
	case o.Authorizations[n].Status != StatusPending:
		return errUnchanged
	case o.isOver(now):
		return problem(acme.Malformed, 0, "the authorization has expired; create a new order")
	case c.Status == StatusPending:
		c.Status, c.DueAt, c.Addr = StatusProcessing, now, addr
	case c.Status == StatusProcessing && c.DueAt.After(now.Add(soonest)):
		c.DueAt, c.Addr = now.Add(soonest), addr
	default:
		return errUnchanged
	}
	o.schedule()
	return nil
}

// schedule sets when an order that is not finalized is due: at the earliest attempt of
// its challenges.
func (o *Order) schedule() {
	if o.Status == StatusProcessing || o.Status == StatusValid {
		return
	}
	o.DueAt = time.Time{}
	o.eachProcessing(func(_ int, c *Challenge) {
		if o.DueAt.IsZero() || c.DueAt.Before(o.DueAt) {
			o.DueAt = c.DueAt
		}
	})
}

// eachProcessing calls f for each challenge that awaits its validation.
func (o *Order) eachProcessing(f func(n int, c *Challenge)) {
	for n := range o.Authorizations {
		authz := &o.Authorizations[n]
		for i := range authz.Challenges {
			if c := &authz.Challenges[i]; authz.Status == StatusPending && c.Status == StatusProcessing {
				f(n, c)
			}
		}
	}
}
