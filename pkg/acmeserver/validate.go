package acmeserver

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/jws"
)

const (
	validationTime = time.Minute // of one attempt
	atOnce         = 8           // attempts for one order at a time
)

// attempt is one call of a Validator for a challenge of an order.
type attempt struct {
	n    int    // of the authorization
	kind string // of the challenge
	err  error
	took bool // false: the Server stopped before there was a result
}

// validate makes the due validations of an order that this instance has a lease of.
func (s *Server) validate(ctx context.Context, o Order) {
	work, h := s.hold(ctx, o)
	defer h.drop()
	key, err := s.keyForValidation(ctx, &o)
	if err != nil {
		s.endValidation(ctx, h, err)
		return
	}
	todo := o.dueAttempts(s.cfg.Now())
	if len(todo) == 0 {
		s.record(ctx, h, func(o *Order) { o.releaseValidation() })
		return
	}
	results := s.attemptAll(work, &o, key, todo)
	for i := range todo {
		a := <-results
		now, last := s.cfg.Now(), i == len(todo)-1
		s.record(ctx, h, func(o *Order) {
			o.apply(a, now)
			if last {
				o.releaseValidation()
			}
		})
	}
}

// keyForValidation returns the key of the order's account.
func (s *Server) keyForValidation(ctx context.Context, o *Order) (*jws.Key, error) {
	if o.isOver(s.cfg.Now()) {
		return nil, expiredProblem()
	}
	account, err := s.validAccount(ctx, o.AccountID)
	if err != nil {
		return nil, err
	}
	return jws.ParseKey(account.Key)
}

// endValidation makes an order invalid whose challenges cannot be validated any more.
// After another error, the order is tried again.
func (s *Server) endValidation(ctx context.Context, h *held, err error) {
	var p *acme.Problem
	now := s.cfg.Now()
	if !errors.As(err, &p) {
		s.logger(h.current()).Warn("cannot validate challenges", "error", err)
		s.record(ctx, h, func(o *Order) { o.release(now.Add(delay(3))) })
		return
	}
	s.record(ctx, h, func(o *Order) {
		if o.Status == StatusPending {
			o.fail(p)
		}
		o.release(time.Time{})
	})
}

// record stores a result. If it cannot, the validation is repeated when the lease ends.
func (s *Server) record(ctx context.Context, h *held, change func(*Order)) {
	err := persist(ctx, func(ctx context.Context) error { return h.update(ctx, change) })
	if err != nil && !errors.Is(err, errLost) {
		s.logger(h.current()).Error("the result of a validation cannot be stored", "error", err)
	}
}

func (o *Order) releaseValidation() {
	o.release(time.Time{})
	o.schedule()
}

// dueAttempts returns the challenges whose validation is due.
func (o *Order) dueAttempts(now time.Time) (due []attempt) {
	o.eachProcessing(func(n int, c *Challenge) {
		if !c.DueAt.After(now) {
			due = append(due, attempt{n: n, kind: c.Type})
		}
	})
	return due
}

// attemptAll validates challenges, several at a time if the owner's share has places for
// it. The results come in any order.
func (s *Server) attemptAll(ctx context.Context, o *Order, key *jws.Key, todo []attempt) <-chan attempt {
	next, results := make(chan attempt, len(todo)), make(chan attempt, len(todo))
	for _, a := range todo {
		next <- a
	}
	close(next)
	var once sync.WaitGroup
	work := func() {
		for a := range next {
			results <- s.attempt(ctx, o, key, a)
		}
	}
	for i := range min(len(todo), atOnce) {
		if i == 0 { // the job has this place
			once.Go(work)
			continue
		}
		release, ok := s.turns.validations.Try(o.Owner)
		if !ok {
			break
		}
		once.Go(func() { defer release(); work() })
	}
	return results
}

// attempt calls the validator of a challenge.
func (s *Server) attempt(ctx context.Context, o *Order, key *jws.Key, a attempt) attempt {
	authz := &o.Authorizations[a.n]
	c := authz.challenge(a.kind)
	limited, cancel := context.WithTimeout(ctx, validationTime)
	defer cancel()
	a.err = s.callValidator(limited, Validation{
		Type: c.Type, Identifier: authz.Identifier, Wildcard: authz.Wildcard,
		Token: c.Token, KeyAuthorization: jws.KeyAuthorization(c.Token, key),
		AccountID: o.AccountID, Owner: o.Owner, Addr: c.Addr, Attempts: c.Attempts,
	})
	var p *acme.Problem
	a.took = a.err == nil || errors.As(a.err, &p) || ctx.Err() == nil
	if a.err != nil && p == nil && a.took {
		s.logger(*o).Debug("a validation has no result yet",
			"challenge", c.Type, "error", a.err, "attempt", c.Attempts+1)
	}
	return a
}

// callValidator turns a panic into an error.
func (s *Server) callValidator(ctx context.Context, v Validation) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Logger.Error("a validator panicked",
				"challenge", v.Type, "cause", panicCause(p), "stack", string(debug.Stack()))
			err = errors.New("the validator panicked")
		}
	}()
	validator := s.cfg.Validators[v.Type]
	if validator == nil {
		return errors.New("this instance has no validator for the challenge")
	}
	return validator.Validate(ctx, v)
}

// apply records the result of an attempt, unless the challenge ended meanwhile.
func (o *Order) apply(a attempt, now time.Time) {
	authz := &o.Authorizations[a.n]
	c := authz.challenge(a.kind)
	if authz.Status != StatusPending || c.Status != StatusProcessing {
		return
	}
	var refused *acme.Problem
	var later *Later
	switch {
	case !a.took:
		c.DueAt = now
		return
	case a.err == nil:
		c.Status, c.Validated, c.DueAt = StatusValid, now, time.Time{}
		authz.Status = StatusValid
	case errors.As(a.err, &refused) && refused != nil:
		refuse(authz, c, refused)
	case o.Status == StatusInvalid: // another authorization failed, so it is not worth another attempt
		refuse(authz, c, problem(acme.Unauthorized, 0, "the order became invalid before this challenge was validated"))
	default:
		c.Attempts++
		c.DueAt = now.Add(delay(c.Attempts))
		if errors.As(a.err, &later) && later.After > 0 {
			c.DueAt = now.Add(later.After)
		}
	}
	o.advance()
	if o.Status == StatusInvalid {
		o.Error = o.cause()
	}
}

func refuse(authz *Authorization, c *Challenge, p *acme.Problem) {
	c.Status, c.Error, c.DueAt = StatusInvalid, p, time.Time{}
	authz.Status = StatusInvalid
}

// cause returns why authorizations failed: one problem, or a compound of several.
func (o *Order) cause() *acme.Problem {
	var found []acme.Subproblem
	for n := range o.Authorizations {
		authz := &o.Authorizations[n]
		for i := range authz.Challenges {
			if p := authz.Challenges[i].Error; authz.Status == StatusInvalid && p != nil {
				found = append(found, acme.Subproblem{Type: p.Type, Detail: p.Detail, Identifier: authz.full()})
			}
		}
	}
	if len(found) == 0 {
		return o.Error
	}
	var details []string
	p := problem(found[0].Type, 0, "")
	for _, sub := range found {
		details = append(details, sub.Identifier.Value+": "+sub.Detail)
		if sub.Type != p.Type {
			p.Type = acme.Compound
		}
	}
	p.Detail, p.Subproblems = some(details), found
	return p
}
