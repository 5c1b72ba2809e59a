package issuer

import (
	"context"
	"errors"
	"slices"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"
	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
)

// fetchHint is how long the first poll waits for the CA's fetch. The wait is
// limited, because the CA may have fetched from another instance.
const fetchHint = 3 * time.Second

// maxParallel is the number of authorizations of one order that run in parallel.
const maxParallel = 16

// validate answers all challenges in parallel and polls the order until it is
// ready. N names cost 2N requests and the polls.
func (f *flow) validate(ctx context.Context, order legoacme.ExtendedOrder) (_ legoacme.ExtendedOrder, err error) {
	all := make([]challenge.OrderAnswer, len(order.Authorizations))
	defer func() {
		if err == nil {
			f.answers = all // they stay until the CSR is accepted
			return
		}
		f.releaseAnswers(order.Location, all, err)
	}()
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(maxParallel)
	for i, url := range order.Authorizations {
		group.Go(func() (err error) {
			if groupCtx.Err() == nil { // otherwise another one failed, and its error is returned
				all[i], err = f.authorize(groupCtx, order.Location, url)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return order, err
	}
	f.emit(acme.Event{Stage: acme.Validating})
	if err := awaitFetch(ctx, all); err != nil {
		return order, classify(awaitValidation, err, time.Time{})
	}
	return f.awaitReady(ctx, order, all)
}

const awaitValidation = "wait for the CA's validation"

// stuckAfter is the number of polls of an order after which its authorizations are
// read.
const stuckAfter = 6

// awaitReady polls the order until all authorizations are final.
func (f *flow) awaitReady(
	ctx context.Context, order legoacme.ExtendedOrder, all []challenge.OrderAnswer,
) (legoacme.ExtendedOrder, error) {
	validation := &f.ca.methods[f.ca.cfg.Challenge].validation
	for _, p := range all {
		if p.Answer != nil {
			validation = &f.ca.methods[p.Type].validation
		}
	}
	polls := validation.newPoller()
	open := slices.DeleteFunc(slices.Clone(all), func(p challenge.OrderAnswer) bool { return p.Answer == nil })
	for n := 1; order.Status == legoacme.StatusPending; n++ {
		if err := polls.wait(ctx, awaitValidation, f.s.retryAfter(order.Location), f.s.now); err != nil {
			return order, err
		}
		var err error
		if order, err = f.readOrder(order); err != nil {
			return order, temporaryIfMissing(f.failed(awaitValidation, err))
		}
		if n >= stuckAfter && n%stuckAfter == 0 && order.Status == legoacme.StatusPending {
			if open, err = f.checkStuck(open); err != nil {
				return order, err
			}
		}
	}
	polls.done()
	if order.Status == legoacme.StatusInvalid {
		return order, f.invalidError(awaitValidation, order)
	}
	return order, nil
}

// checkStuck returns the reason why an order stays pending. Some CAs leave an
// authorization pending forever after its challenge has failed. It reads a few
// authorizations at a time and returns those that are still open.
func (f *flow) checkStuck(open []challenge.OrderAnswer) ([]challenge.OrderAnswer, error) {
	looked := min(len(open), maxParallel)
	left := slices.Clone(open[looked:])
	for _, p := range open[:looked] {
		authz, err := f.authorization(p.Authorization)
		if err != nil {
			return nil, temporaryIfMissing(f.failed(awaitValidation, err))
		}
		if authz.Status == legoacme.StatusValid {
			continue
		}
		if err := checkUndecided(authz, p.Token); err != nil {
			return nil, err
		}
		left = append(left, p)
	}
	return left, nil
}

// checkUndecided returns an error if an authorization that is not valid can no
// longer become valid.
func checkUndecided(authz legoacme.Authorization, token string) error {
	if authz.Status != legoacme.StatusPending {
		return authzError(authz)
	}
	for _, c := range authz.Challenges {
		if c.Token == token && c.Status == legoacme.StatusInvalid {
			return authzError(authz)
		}
	}
	return nil
}

// releaseAnswers removes the answers of an order. If the order will be continued,
// they stay, because the CA may not have fetched all of them yet.
func (f *flow) releaseAnswers(order string, all []challenge.OrderAnswer, err error) {
	all = slices.DeleteFunc(slices.Clone(all), func(p challenge.OrderAnswer) bool { return p.Answer == nil })
	var e *acme.Error
	if errors.As(err, &e) && e.Kind != acme.Permanent && !e.Final && f.req.OnOrder != nil {
		all = f.ca.kept.Put(order, all)
	}
	challenge.RemoveAll(all)
}

// authorization reads an authorization.
func (f *flow) authorization(url string) (legoacme.Authorization, error) {
	return read(f.s, func() (legoacme.Authorization, error) {
		authz, err := f.core.Authorizations.Get(url)
		if err != nil {
			return authz, err
		}
		return f.checkAuthorization(authz, url)
	})
}

// authorize publishes the answer to one authorization's challenge and notifies the
// CA. It returns no answer and no error if the authorization is valid already.
func (f *flow) authorize(ctx context.Context, order, url string) (challenge.OrderAnswer, error) {
	authz, err := f.authorization(url)
	if err != nil {
		return challenge.OrderAnswer{}, temporaryIfMissing(f.failed("read an authorization", err))
	}
	name := authz.Identifier.Value
	switch authz.Status {
	case legoacme.StatusValid:
		return challenge.OrderAnswer{}, nil
	case legoacme.StatusPending:
	default:
		return challenge.OrderAnswer{}, authzError(authz)
	}
	m, err := f.ca.method(name, authz.Wildcard)
	if err != nil {
		return challenge.OrderAnswer{}, permanent("authorize", "%v", err)
	}
	offered, err := findChallenge(authz, m.kind)
	if err != nil {
		return challenge.OrderAnswer{}, err
	}
	keyAuthorization, err := f.core.GetKeyAuthorization(offered.Token)
	if err != nil {
		return challenge.OrderAnswer{}, f.failed("answer the challenge", err)
	}
	c := challenge.Challenge{Name: name, Token: offered.Token, KeyAuthorization: keyAuthorization}
	if key, pause := m.Exclusive(c); key != "" {
		return challenge.OrderAnswer{}, f.takeTurn(ctx, key, pause, func(waited bool) error {
			challenge.RemoveAll(f.ca.kept.TakeTurn(key))
			return f.prove(ctx, m, c, order, url, offered, waited)
		})
	}
	return f.present(ctx, m, c, url, offered)
}

// findChallenge returns the challenge of a type. It refuses a token that is not
// base64url, which becomes a file name and a part of a hook's environment.
func findChallenge(authz legoacme.Authorization, kind string) (legoacme.Challenge, error) {
	e := permanent("authorize", "the CA offers no %s challenge for it", kind)
	for _, c := range authz.Challenges {
		switch {
		case c.Type != kind || c.Token == "":
		case c.Status == legoacme.StatusInvalid:
			return c, authzError(authz)
		case !challenge.IsToken(c.Token):
			e = permanent("authorize", "the CA's token for the %s challenge is not base64url", kind)
		case c.URL == "":
			e = permanent("authorize", "the CA's URL of the %s challenge cannot be used", kind)
		default:
			return c, nil
		}
	}
	e.Identifier = authz.Identifier.Value
	return legoacme.Challenge{}, e
}

// present publishes an answer and notifies the CA. It returns the answer even with
// an error, so that the caller can remove it.
func (f *flow) present(ctx context.Context, m *method, c challenge.Challenge, url string, offered legoacme.Challenge) (challenge.OrderAnswer, error) {
	if m.kind == acme.DNS01 {
		f.emit(acme.Event{Stage: acme.Publishing, Identifier: c.Name})
	}
	a, err := m.Present(ctx, c)
	if err != nil {
		return challenge.OrderAnswer{}, f.publishError(c, err)
	}
	p := challenge.OrderAnswer{Answer: a, Type: m.kind, Authorization: url, Token: c.Token}
	p.Turn, _ = m.Exclusive(c)
	f.emit(acme.Event{Stage: acme.Challenge, Identifier: c.Name})
	return p, f.beginChallenge(url, offered)
}

// beginChallenge asks the CA to validate, unless it does so already. If the CA's
// answer is lost or unusable, it reads the authorization.
func (f *flow) beginChallenge(url string, offered legoacme.Challenge) error {
	for n := 0; ; n++ {
		if offered.Status == legoacme.StatusProcessing || offered.Status == legoacme.StatusValid {
			return nil
		}
		answer, err := f.core.Challenges.New(offered.URL)
		if err == nil && answer.Status != legoacme.StatusInvalid {
			return nil
		}
		if isContext(err) || isTrust(err) || isTransient(err) && !f.s.pause(n, err) {
			return f.failed("begin the challenge", err)
		}
		if isProblem(err, acme.BadNonce) { // the CA has not handled it
			continue
		}
		authz, unread := f.authorization(url)
		if unread != nil {
			return temporaryIfMissing(f.failed("read an authorization", unread))
		}
		if authz.Status == legoacme.StatusValid {
			return nil
		}
		if err := checkUndecided(authz, offered.Token); err != nil {
			return err
		}
		i := slices.IndexFunc(authz.Challenges, func(c legoacme.Challenge) bool { return c.Token == offered.Token && c.Type == offered.Type })
		switch {
		case i < 0:
			return permanent("begin the challenge", "the CA withdrew the challenge")
		case authz.Challenges[i].Status == legoacme.StatusPending && !isTransient(err):
			return f.failed("begin the challenge", err)
		}
		offered.Status = authz.Challenges[i].Status
	}
}

// publishError returns a solver's error as an *acme.Error.
func (f *flow) publishError(c challenge.Challenge, err error) error {
	var e *acme.Error
	if errors.As(err, &e) {
		e.Identifier = c.Name
		return e
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return classify("publish the answer", err, time.Time{})
	}
	return &acme.Error{Kind: acme.Temporary, Op: "publish the answer for", Identifier: c.Name, Detail: acme.Shorten(err.Error()), Err: err}
}

// takeTurn calls do, but never concurrently for one key.
func (f *flow) takeTurn(ctx context.Context, key string, pause time.Duration, do func(waited bool) error) error {
	release, waited, err := f.ca.turns.Take(ctx, key)
	if err != nil {
		return classify("wait for another challenge of the same name", err, time.Time{})
	}
	defer release(pause)
	return do(waited)
}

// prove takes one authorization from pending to valid and removes its answer, so
// that the next one of the same name can follow. If it waited for the turn, another
// order that shares the authorization may have validated it already.
func (f *flow) prove(ctx context.Context, m *method, c challenge.Challenge, order, url string, offered legoacme.Challenge, waited bool) (err error) {
	if waited {
		authz, err := f.authorization(url)
		switch {
		case err != nil:
			return temporaryIfMissing(f.failed("read an authorization", err))
		case authz.Status == legoacme.StatusValid:
			return nil
		case authz.Status != legoacme.StatusPending:
			return authzError(authz)
		}
		if offered, err = findChallenge(authz, m.kind); err != nil {
			return err
		}
	}
	p, err := f.present(ctx, m, c, url, offered)
	defer func() { f.releaseAnswers(order, []challenge.OrderAnswer{p}, err) }()
	if err != nil {
		return err
	}
	if err := awaitFetch(ctx, []challenge.OrderAnswer{p}); err != nil {
		return classify(awaitValidation, err, time.Time{})
	}
	polls := m.validation.newPoller()
	for {
		if err := polls.wait(ctx, awaitValidation, f.s.retryAfter(url), f.s.now); err != nil {
			return err
		}
		authz, err := f.authorization(url)
		if err != nil {
			return temporaryIfMissing(f.failed(awaitValidation, err))
		}
		if authz.Status == legoacme.StatusValid {
			polls.done()
			return nil
		}
		if err := checkUndecided(authz, c.Token); err != nil {
			return err
		}
	}
}

// awaitFetch waits until every answer was fetched once, for fetchHint at most.
func awaitFetch(ctx context.Context, all []challenge.OrderAnswer) error {
	timer := time.NewTimer(fetchHint)
	defer timer.Stop()
	for _, p := range all {
		if p.Answer == nil || p.Fetched() == nil {
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

func authzError(authz legoacme.Authorization) *acme.Error {
	e := permanent("authorize", "the authorization is %s", authz.Status)
	for _, c := range authz.Challenges {
		if c.Error != nil {
			e = fromProblem("authorize", toProblem(c.Error), time.Time{}, c.Error)
		}
	}
	e.Identifier, e.Final = authz.Identifier.Value, true
	return e
}
