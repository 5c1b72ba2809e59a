package issuer

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"golang.org/x/sync/errgroup"
)

// fetchHint is how long the first poll waits for the CA's fetch, which may have
// reached another instance without our hearing of it.
const fetchHint = 3 * time.Second

// atOnce bounds how many authorizations of one order are worked on.
const atOnce = 16

// presented is an answer that the CA was told of.
type presented struct {
	reply
	method *method
}

// validate answers all challenges at once and polls the order until it is
// ready: N names cost 2N requests and the polls.
func (f *flow) validate(ctx context.Context, order acme.ExtendedOrder) (acme.ExtendedOrder, error) {
	all := make([]presented, len(order.Authorizations))
	defer func() { remove(all) }()
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, url := range order.Authorizations {
		group.Go(func() (err error) {
			if groupCtx.Err() == nil { // else another one failed; its error counts
				all[i], err = f.authorize(groupCtx, url)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return order, err
	}
	f.emit(Event{Stage: Validating})
	if err := awaitFetch(ctx, all); err != nil {
		return order, classify("wait for the CA's validation", err, time.Time{})
	}
	validation := &f.is.methods[f.is.cfg.Challenge].validation
	for _, p := range all {
		if p.reply != nil {
			validation = &p.method.validation
		}
	}
	return f.poll(ctx, order, validation, "wait for the CA's validation", acme.StatusPending)
}

// remove takes all answers away, several at a time.
func remove(all []presented) {
	var removing sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for _, p := range all {
		if p.reply == nil {
			continue
		}
		if p.Fetched() != nil { // it is in memory
			p.Remove()
			continue
		}
		places <- struct{}{}
		removing.Go(func() {
			defer func() { <-places }()
			p.Remove()
		})
	}
	removing.Wait()
}

// authorize publishes the answer to one authorization's challenge and tells the
// CA. No answer and no error mean that it is valid already.
func (f *flow) authorize(ctx context.Context, url string) (presented, error) {
	authz, err := f.core.Authorizations.Get(url)
	if err != nil {
		return presented{}, f.failed("read an authorization", err)
	}
	name := authz.Identifier.Value
	switch authz.Status {
	case acme.StatusValid:
		return presented{}, nil
	case acme.StatusPending:
	default:
		return presented{}, authzError(authz)
	}
	m, err := f.is.method(name, authz.Wildcard)
	if err != nil {
		return presented{}, permanent("authorize", "%v", err)
	}
	offered, err := offer(authz, m.kind)
	if err != nil {
		return presented{}, err
	}
	keyAuthorization, err := f.core.GetKeyAuthorization(offered.Token)
	if err != nil {
		return presented{}, f.failed("answer the challenge", err)
	}
	c := challenge{name: name, token: offered.Token, keyAuthorization: keyAuthorization}
	if key, pause := m.exclusive(c); key != "" {
		return presented{}, f.takeTurn(ctx, key, pause, func(waited bool) error {
			return f.prove(ctx, m, c, url, offered, waited)
		})
	}
	return f.present(ctx, m, c, offered)
}

func offer(authz acme.Authorization, kind string) (acme.Challenge, error) {
	for _, c := range authz.Challenges {
		if c.Type == kind && c.Token != "" {
			return c, nil
		}
	}
	e := permanent("authorize", "the CA offers no %s challenge for it", kind)
	e.Identifier = authz.Identifier.Value
	return acme.Challenge{}, e
}

// present publishes an answer and tells the CA. The answer is returned even
// with an error, to be removed.
func (f *flow) present(ctx context.Context, m *method, c challenge, offered acme.Challenge) (presented, error) {
	if m.kind == DNS01 {
		f.emit(Event{Stage: Publishing, Identifier: c.name})
	}
	a, err := m.present(ctx, c)
	if err != nil {
		return presented{}, f.unpublished(c, err)
	}
	p := presented{a, m}
	f.emit(Event{Stage: Challenge, Identifier: c.name})
	if offered.Status == acme.StatusProcessing {
		return p, nil // the CA was told before a crash, and is at it
	}
	if _, err := f.core.Challenges.New(offered.URL); err != nil {
		return p, f.failed("begin the challenge", err)
	}
	return p, nil
}

// unpublished types an error of a solver's.
func (f *flow) unpublished(c challenge, err error) error {
	var e *Error
	if errors.As(err, &e) {
		e.Identifier = c.name
		return e
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return classify("publish the answer", err, time.Time{})
	}
	return &Error{Kind: Temporary, Op: "publish the answer for", Identifier: c.name, Detail: shorten(err.Error()), Err: err}
}

// takeTurn does what must not be done twice at a time.
func (f *flow) takeTurn(ctx context.Context, key string, pause time.Duration, do func(waited bool) error) error {
	release, waited, err := f.is.turns.take(ctx, key)
	if err != nil {
		return classify("wait for another challenge of the same name", err, time.Time{})
	}
	defer release(pause)
	return do(waited)
}

// prove takes one authorization from pending to valid, and its answer away
// again: the next one of the same name can only come then. Whoever waited for
// the turn may find that another order, with which it shares the authorization,
// has done it already.
func (f *flow) prove(ctx context.Context, m *method, c challenge, url string, offered acme.Challenge, waited bool) error {
	const op = "wait for the CA's validation"
	if waited {
		authz, err := f.core.Authorizations.Get(url)
		switch {
		case err != nil:
			return f.failed("read an authorization", err)
		case authz.Status == acme.StatusValid:
			return nil
		case authz.Status != acme.StatusPending:
			return authzError(authz)
		}
		if offered, err = offer(authz, m.kind); err != nil {
			return err
		}
	}
	p, err := f.present(ctx, m, c, offered)
	defer remove([]presented{p})
	if err != nil {
		return err
	}
	if err := awaitFetch(ctx, []presented{p}); err != nil {
		return classify(op, err, time.Time{})
	}
	polls := m.validation.poller()
	for {
		if err := polls.wait(ctx, op, f.s.retryAfter(url)); err != nil {
			return err
		}
		authz, err := f.core.Authorizations.Get(url)
		switch {
		case err != nil:
			return f.failed(op, err)
		case authz.Status == acme.StatusValid:
			polls.done()
			return nil
		case authz.Status != acme.StatusPending:
			return authzError(authz)
		}
	}
}

// awaitFetch returns when every answer was fetched once, or should have been.
func awaitFetch(ctx context.Context, all []presented) error {
	timer := time.NewTimer(fetchHint)
	defer timer.Stop()
	for _, p := range all {
		if p.reply == nil || p.Fetched() == nil {
			continue
		}
		select {
		case <-p.Fetched():
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func authzError(authz acme.Authorization) *Error {
	e := permanent("authorize", "the authorization is %s", authz.Status)
	for _, c := range authz.Challenges {
		if c.Error != nil {
			e = fromProblem("authorize", c.Error, time.Time{}, c.Error)
		}
	}
	e.Identifier = authz.Identifier.Value
	return e
}
