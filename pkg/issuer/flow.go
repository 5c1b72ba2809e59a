package issuer

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"
	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// fetchHint is how long the first poll waits for the CA's fetch, which another
// instance may have answered.
const fetchHint = 3 * time.Second

// flow is one issuance.
type flow struct {
	is   *Issuer
	req  cert.Request
	emit func(Event)

	names  cert.Names
	csr    []byte
	key    crypto.Signer // nil if the client has it
	public crypto.PublicKey

	s    *session
	core *api.Core
}

const prepare = "prepare the order"

// check reads the client's CSR, if there is one, and looks at the names, before
// anything costs anything.
func (f *flow) check() error {
	f.names = f.req.Names
	if f.req.CSR != nil {
		csr, err := cert.ParseCSR(f.req.CSR)
		if err != nil {
			return permanent(prepare, "csr: %v", err)
		}
		if f.req.Names != nil && !f.req.Names.Equal(csr.Names) {
			return permanent(prepare, "csr: it is for %s, not for %s", csr.Names, f.req.Names)
		}
		f.names, f.csr, f.public = csr.Names, csr.DER, csr.Public
	}
	if len(f.names) == 0 {
		return permanent(prepare, "names: there are none")
	}
	if err := CheckNames(f.names); err != nil {
		return permanent(prepare, "%v", err)
	}
	return nil
}

// makeKey makes the key and the CSR where the client sent none. It takes
// seconds of work for the longest keys, so no more of them are made at a time
// than there are places.
func (f *flow) makeKey() error {
	if f.csr != nil {
		return nil
	}
	key, err := cert.GenerateKey(f.req.KeyType)
	if err != nil {
		return permanent(prepare, "%v", err)
	}
	csr, err := cert.NewCSR(key, f.names)
	if err != nil {
		return permanent(prepare, "%v", err)
	}
	f.key, f.csr, f.public = key, csr, key.Public()
	return nil
}

// CheckNames tells whether an Issuer can prove control over all these names.
// The error is a *cert.FieldError. Whoever takes requests asks here first, so
// that what can never be issued is refused at once.
func CheckNames(names cert.Names) error {
	for _, name := range names {
		if cert.IsWildcard(name) {
			return &cert.FieldError{Field: "names", Err: fmt.Errorf("%s needs a DNS-01 challenge, which this proxy does not answer; list the hosts instead", name)}
		}
	}
	return nil
}

// run takes the order from wherever it stands to the certificate.
func (f *flow) run(ctx context.Context, acc account) (*cert.Bundle, error) {
	f.s = f.is.wire.session(ctx)
	var err error
	if f.core, err = f.is.core(f.s, acc); err != nil {
		return nil, err
	}
	order, err := f.order(ctx)
	if err != nil {
		return nil, err
	}
	if order.Status == acme.StatusPending {
		if order, err = f.validate(ctx, order); err != nil {
			return nil, err
		}
	}
	if order.Status == acme.StatusReady {
		if order, err = f.finalize(order); err != nil {
			return nil, err
		}
	}
	if order, err = f.await(ctx, order); err != nil {
		return nil, err
	}
	chain, _, err := f.core.Certificates.Get(order.Certificate, true)
	if err != nil {
		return nil, f.failed("download the certificate", err)
	}
	bundle, err := cert.NewBundle(chain, f.key, f.public, f.names)
	if err != nil {
		return nil, permanent("check the certificate", "the CA sent something else than was ordered: %v", err)
	}
	f.emit(Event{Stage: Issued})
	return bundle, nil
}

// order resumes the one of the request if it still serves, or begins one.
func (f *flow) order(ctx context.Context) (acme.ExtendedOrder, error) {
	f.emit(Event{Stage: Ordering})
	if f.req.OrderURL != "" {
		order, err := f.core.Orders.Get(f.req.OrderURL)
		if err == nil && order.Status != acme.StatusInvalid && f.ours(order) {
			order.Location = f.req.OrderURL
			return order, nil
		}
		if err := f.failed("read the order again", err); err != nil && !isPermanent(err) {
			return order, err
		}
		// It is gone, spent or another's: only a new order helps.
	}
	order, err := f.core.Orders.NewWithOptions(f.names, &api.OrderOptions{Profile: f.req.Profile})
	if err != nil {
		return order, f.failed("order", err)
	}
	if order.Location == "" {
		return order, &Error{Kind: Temporary, Op: "order", Detail: "the CA did not say where the order is"}
	}
	if f.req.OnOrder != nil {
		if err := f.req.OnOrder(ctx, order.Location); err != nil {
			return order, &Error{Kind: Temporary, Op: "keep the order", Detail: err.Error(), Err: err}
		}
	}
	return order, nil
}

// ours tells whether an order is for our names.
func (f *flow) ours(order acme.ExtendedOrder) bool {
	var ids []string
	for _, id := range order.Identifiers {
		ids = append(ids, id.Value)
	}
	names, err := cert.ParseNames(ids...)
	return err == nil && names.Equal(f.names)
}

// validate answers all challenges at once and polls the order until it is
// ready: N names cost 2N requests and the polls.
func (f *flow) validate(ctx context.Context, order acme.ExtendedOrder) (acme.ExtendedOrder, error) {
	answers := make([]*responder.Answer, len(order.Authorizations))
	defer func() {
		for _, a := range answers {
			if a != nil {
				a.Remove()
			}
		}
	}()
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i, url := range order.Authorizations {
		group.Go(func() (err error) {
			if groupCtx.Err() == nil { // else another one failed, and its error counts
				answers[i], err = f.authorize(url)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return order, err
	}
	f.emit(Event{Stage: Validating})
	if err := awaitFetch(ctx, answers); err != nil {
		return order, classify("wait for the CA's validation", err, time.Time{})
	}
	return f.poll(ctx, order, &f.is.validation, "wait for the CA's validation", acme.StatusPending)
}

// authorize publishes the answer to one authorization's HTTP-01 challenge and
// tells the CA; nil, nil means that it is valid already.
func (f *flow) authorize(url string) (*responder.Answer, error) {
	authz, err := f.core.Authorizations.Get(url)
	if err != nil {
		return nil, f.failed("read an authorization", err)
	}
	name := authz.Identifier.Value
	switch authz.Status {
	case acme.StatusValid:
		return nil, nil
	case acme.StatusPending:
	default:
		return nil, authzError(authz)
	}
	challenge, err := http01(authz)
	if err != nil {
		return nil, err
	}
	keyAuthorization, err := f.core.GetKeyAuthorization(challenge.Token)
	if err != nil {
		return nil, f.failed("answer the challenge", err)
	}
	a := f.is.cfg.Responder.Put(name, challenge.Token, keyAuthorization)
	f.emit(Event{Stage: Challenge, Identifier: name})
	if challenge.Status == acme.StatusProcessing {
		return a, nil // the CA was told before a crash, and is at it
	}
	if _, err := f.core.Challenges.New(challenge.URL); err != nil {
		return a, f.failed("begin the challenge", err)
	}
	return a, nil
}

func http01(authz acme.Authorization) (acme.Challenge, error) {
	for _, c := range authz.Challenges {
		if c.Type == "http-01" && c.Token != "" {
			return c, nil
		}
	}
	e := permanent("authorize", "the CA offers no http-01 challenge for it")
	e.Identifier = authz.Identifier.Value
	return acme.Challenge{}, e
}

// awaitFetch returns when every answer was fetched once, or should have been.
func awaitFetch(ctx context.Context, answers []*responder.Answer) error {
	timer := time.NewTimer(fetchHint)
	defer timer.Stop()
	for _, a := range answers {
		if a == nil {
			continue
		}
		select {
		case <-a.Fetched():
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// finalize sends the CSR.
func (f *flow) finalize(order acme.ExtendedOrder) (acme.ExtendedOrder, error) {
	f.emit(Event{Stage: Finalizing})
	done, err := f.core.Orders.UpdateForCSR(order.Finalize, f.csr)
	if err != nil {
		return order, f.failed("finalize", err)
	}
	done.Location = order.Location
	f.s.copyRetryAfter(order.Finalize, order.Location)
	f.emit(Event{Stage: Issuing})
	return done, nil
}

// await polls a finalized order until the certificate is there.
func (f *flow) await(ctx context.Context, order acme.ExtendedOrder) (acme.ExtendedOrder, error) {
	const op = "wait for the certificate"
	order, err := f.poll(ctx, order, &f.is.signing, op, acme.StatusProcessing)
	if err != nil {
		return order, err
	}
	if order.Status != acme.StatusValid || order.Certificate == "" {
		return order, &Error{Kind: Temporary, Op: op, Detail: fmt.Sprintf("the order is %q and has no certificate", order.Status)}
	}
	return order, nil
}

// poll reads the order until its status is another than from.
func (f *flow) poll(ctx context.Context, order acme.ExtendedOrder, p *pace, op, from string) (acme.ExtendedOrder, error) {
	if order.Status != from {
		return order, nil
	}
	location := order.Location
	polls := p.poller()
	for order.Status == from {
		if err := polls.wait(ctx, op, f.s.retryAfter(location)); err != nil {
			return order, err
		}
		var err error
		if order, err = f.core.Orders.Get(location); err != nil {
			return order, f.failed(op, err)
		}
	}
	polls.done()
	order.Location = location
	if order.Status == acme.StatusInvalid {
		return order, f.invalid(op, order)
	}
	return order, nil
}

// invalid finds out why: the authorization that failed knows best.
func (f *flow) invalid(op string, order acme.ExtendedOrder) error {
	for _, url := range order.Authorizations {
		if authz, err := f.core.Authorizations.Get(url); err == nil && authz.Status == acme.StatusInvalid {
			return authzError(authz)
		}
	}
	if order.Error != nil {
		return fromProblem(op, order.Error, time.Time{}, order.Error)
	}
	return permanent(op, "the CA made the order invalid and did not say why")
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

// failed types an error of lego's; nil stays nil.
func (f *flow) failed(op string, err error) error {
	if err == nil {
		return nil
	}
	return classify(op, err, f.s.lastRetryAfter())
}

func isPermanent(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == Permanent
}
