package issuer

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
)

// flow is one issuance.
type flow struct {
	ca   *CA
	req  cert.Request
	emit func(acme.Event)

	names  cert.Names
	csr    []byte
	key    crypto.Signer // nil if the client sent a CSR
	public crypto.PublicKey

	s    *session
	core *api.Core

	continued []challenge.OrderAnswer // answers of an earlier attempt
	answers   []challenge.OrderAnswer // answers of this attempt, once the order seems validated
	accepted  bool                    // the CA accepted the CSR, so it needs no more answers
}

const prepare = "prepare the order"

// check parses the client's CSR, if any, and checks the names, before the issuance
// needs a key, a place or a request.
func (f *flow) check() error {
	f.names = f.req.Names
	if f.req.CSR != nil {
		csr, err := cert.ParseCSR(f.req.CSR)
		if err != nil {
			return permanent(prepare, "csr: %v", err)
		}
		if f.req.Names != nil && !f.req.Names.Equal(csr.Names) {
			return permanent(prepare, "csr: its names are %s, not %s", csr.Names, f.req.Names)
		}
		f.names, f.csr, f.public = csr.Names, csr.DER, csr.Public
	}
	if len(f.names) == 0 {
		return permanent(prepare, "names: empty; set at least one")
	}
	if err := f.ca.CheckNames(f.names); err != nil {
		return permanent(prepare, "%v", err)
	}
	return nil
}

// keyFunc generates a key for a client. It calls queued if the client has to wait.
type keyFunc func(ctx context.Context, client string, t cert.KeyType, queued func()) (crypto.Signer, error)

// generateKey generates the key and the CSR if the client sent none. The longest keys
// take seconds, so the key is generated before a place is acquired.
func (f *flow) generateKey(ctx context.Context, generate keyFunc) error {
	if f.csr != nil {
		return nil
	}
	key, err := generate(ctx, f.req.Client, f.req.KeyType, f.queued)
	if ctx.Err() != nil {
		return classify(prepare, ctx.Err(), time.Time{})
	}
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

// queued notifies the client that it waits for others.
func (f *flow) queued() { f.emit(acme.Event{Stage: acme.Queued}) }

// maxTaken is how many orders of one issuance others may finalize.
const maxTaken = 8

// run continues the order from its current state until it has the certificate. CAs give the
// unfinished order of an account to each request for the same names, so another flow, of
// another client or instance, may have finalized it with its own key. Then run orders
// again. Each time, the other flow has its certificate and does not compete any more.
func (f *flow) run(ctx context.Context, acc account) (*cert.Bundle, error) {
	for taken := 0; ; taken++ {
		bundle, err := f.runOrder(ctx, acc)
		if !errors.Is(err, cert.ErrOtherKey) || taken == maxTaken {
			return bundle, err
		}
		f.req.Order, f.accepted = cert.Order{}, false
	}
}

func (f *flow) runOrder(ctx context.Context, acc account) (_ *cert.Bundle, err error) {
	f.s = f.ca.wire.session(ctx)
	if f.core, err = f.ca.newCore(f.s, acc); err != nil {
		return nil, err
	}
	defer func() {
		if f.accepted {
			challenge.RemoveAll(f.answers)
			f.answers = nil
		}
		f.releaseAnswers(f.req.Order.URL, append(f.answers, f.continued...), err)
	}()
	order, err := f.order(ctx)
	if err != nil {
		return nil, err
	}
	if order.Status == legoacme.StatusPending {
		if order, err = f.validate(ctx, order); err != nil {
			return nil, err
		}
	}
	if order, err = f.obtain(ctx, order); err != nil {
		return nil, err
	}
	bundle, from, err := f.download(order.Certificate)
	if err != nil {
		return nil, err
	}
	if f.req.Alternates {
		f.addAlternates(ctx, acc, bundle, order.Certificate, from)
	}
	bundle.CA, bundle.URL = f.ca.cfg.DirectoryURL, order.Certificate
	f.emit(acme.Event{Stage: acme.Issued})
	return bundle, nil
}

// order resumes the request's order if it is still usable, or creates one.
func (f *flow) order(ctx context.Context) (legoacme.ExtendedOrder, error) {
	f.emit(acme.Event{Stage: acme.Ordering})
	if f.req.Order.URL != "" {
		order, err := f.resume()
		if err == nil && order.Status == legoacme.StatusInvalid {
			err = f.replaceInvalid(ctx, order)
			order = legoacme.ExtendedOrder{}
		}
		if err != nil || order.Location != "" {
			return order, err
		}
		challenge.RemoveAll(f.continued)
		f.continued = nil
	}
	if f.req.Profile != "" {
		if err := checkProfile(f.req.Profile, f.core.GetDirectory().Meta.Profiles); err != nil {
			return legoacme.ExtendedOrder{}, permanent("order", "profile: %v", err)
		}
	}
	order, err := f.newOrder()
	if err != nil {
		return order, f.failed("order", err)
	}
	if f.req.OnOrder != nil {
		if err := f.req.OnOrder(ctx, cert.Order{CA: f.ca.cfg.DirectoryURL, URL: order.Location}); err != nil {
			return order, &acme.Error{Kind: acme.Temporary, Op: "store the order", Detail: err.Error(), Err: err}
		}
	}
	f.req.Order = cert.Order{CA: f.ca.cfg.DirectoryURL, URL: order.Location}
	return order, nil
}

// replaceInvalid returns nil if another order may replace an invalid one of an earlier
// attempt, and otherwise the reason why that is invalid.
func (f *flow) replaceInvalid(ctx context.Context, order legoacme.ExtendedOrder) error {
	if f.req.OnInvalid == nil {
		return nil
	}
	replace, err := f.req.OnInvalid(ctx)
	switch {
	case err != nil:
		return &acme.Error{Kind: acme.Temporary, Op: "replace the order", Detail: err.Error(), Err: err}
	case !replace:
		return f.invalidError("read the order again", order)
	}
	return nil
}

// resume reads the order of the request, which may be invalid. It returns an order without
// a location and no error if that order is gone or for other names, and a new one is needed.
func (f *flow) resume() (legoacme.ExtendedOrder, error) {
	f.continued = f.ca.kept.Take(f.req.Order.URL)
	order, err := read(f.s, func() (legoacme.ExtendedOrder, error) {
		order, err := f.core.Orders.Get(f.req.Order.URL)
		if err != nil || !f.isOurs(order) {
			return legoacme.ExtendedOrder{}, err
		}
		return f.checkOrder(order, legoacme.ExtendedOrder{Location: f.req.Order.URL}, f.req.Order.URL)
	})
	if err == nil {
		return order, nil
	}
	err = f.failed("read the order again", err)
	if isPermanent(err) || statusOf(err) == http.StatusNotFound {
		return legoacme.ExtendedOrder{}, nil
	}
	return order, err
}

var errNoLocation = errors.New("the CA returned no URL for the order")

// newOrderWith creates an order that replaces a certificate; none if empty. If the
// answer is lost, an order with an unknown URL may exist. newOrderWith risks that once.
func (f *flow) newOrderWith(replaces string) (legoacme.ExtendedOrder, error) {
	risked := false
	again := func(err error) bool {
		if !isTransient(err) {
			return false
		}
		if !mayBeHandled(err) {
			return true
		}
		if risked || !isUnanswered(err) && !errors.Is(err, errNoLocation) {
			return false
		}
		risked = true
		return true
	}
	return repeat(f.s, again, func() (legoacme.ExtendedOrder, error) {
		order, err := f.core.Orders.NewWithOptions(f.names, f.orderOptions(replaces))
		if err == nil && order.Location == "" {
			err = errNoLocation
		}
		if err != nil {
			return order, err
		}
		return f.checkOrder(order, order, f.core.GetDirectory().NewOrderURL)
	})
}

// readOrder returns the current state of an order.
func (f *flow) readOrder(order legoacme.ExtendedOrder) (legoacme.ExtendedOrder, error) {
	return read(f.s, func() (legoacme.ExtendedOrder, error) {
		now, err := f.core.Orders.Get(order.Location)
		if err != nil {
			return order, err
		}
		return f.checkOrder(now, order, order.Location)
	})
}

const (
	maxFinalize    = 4  // requests with a CSR for one order
	unchangedPolls = 3  // polls of a ready order before the CSR is sent again
	maxStalled     = 14 // polls of an order without progress: half a minute
)

// obtain finalizes the order if necessary, and polls it until it has a certificate.
// The order's status decides, not the answer to finalize.
func (f *flow) obtain(ctx context.Context, order legoacme.ExtendedOrder) (legoacme.ExtendedOrder, error) {
	const op = "wait for the certificate"
	var err error
	polls := f.ca.signing.newPoller()
	finalized, stalled := 0, 0
	for {
		switch {
		case order.Status == legoacme.StatusInvalid:
			return order, f.invalidError(op, order)
		case order.Status == legoacme.StatusValid && order.Certificate != "":
			polls.done()
			return order, nil
		case order.Status == legoacme.StatusReady && finalized < maxFinalize && (finalized == 0 || stalled >= unchangedPolls):
			if order, err = f.finalize(order); err != nil {
				return order, err
			}
			finalized, stalled = finalized+1, 0
			polls = f.ca.signing.newPoller()
			continue
		case order.Status != legoacme.StatusProcessing:
			if stalled++; stalled > maxStalled {
				return order, &acme.Error{Kind: acme.Temporary, Op: op, Detail: fmt.Sprintf("the order stays %q and has no certificate", order.Status)}
			}
		}
		if err := polls.wait(ctx, op, f.s.retryAfter(order.Location), f.s.now); err != nil {
			return order, err
		}
		if order, err = f.readOrder(order); err != nil {
			return order, temporaryIfMissing(f.failed(op, err))
		}
	}
}

// finalize sends the CSR. After a failure that says nothing about the CSR, it reads
// the order, which may have been finalized.
func (f *flow) finalize(order legoacme.ExtendedOrder) (legoacme.ExtendedOrder, error) {
	const op = "finalize"
	f.emit(acme.Event{Stage: acme.Finalizing})
	for n := 0; ; n++ {
		done, err := f.core.Orders.UpdateForCSR(order.Finalize, f.csr)
		if err == nil {
			done, err = f.checkOrder(done, order, order.Finalize)
		}
		if err == nil {
			f.accepted = true
			f.s.copyRetryAfter(order.Finalize, order.Location)
			f.emit(acme.Event{Stage: acme.Issuing})
			return done, nil
		}
		if !isTransient(err) && !isProblem(err, acme.OrderNotReady) || !f.s.pause(n, err) {
			return order, f.failed(op, err)
		}
		if isProblem(err, acme.BadNonce) { // the CA has not handled it
			continue
		}
		now, unread := f.readOrder(order)
		if unread != nil {
			return order, temporaryIfMissing(f.failed(op, unread))
		}
		if order = now; order.Status != legoacme.StatusReady {
			f.emit(acme.Event{Stage: acme.Issuing})
			return order, nil
		}
	}
}

// invalidError returns the reason why an order is invalid. The error of a failed
// authorization is more precise than the order's.
func (f *flow) invalidError(op string, order legoacme.ExtendedOrder) error {
	for _, url := range order.Authorizations {
		if authz, err := f.authorization(url); err == nil && authz.Status == legoacme.StatusInvalid {
			return authzError(authz)
		}
	}
	e := permanent(op, "the CA made the order invalid and gave no reason")
	if order.Error != nil {
		e = fromProblem(op, toProblem(order.Error), time.Time{}, order.Error)
	}
	e.Final = true
	return e
}

// failed returns an error of lego's as an *acme.Error, and nil for nil.
func (f *flow) failed(op string, err error) error {
	if err == nil {
		return nil
	}
	return classify(op, err, time.Time{})
}

func isPermanent(err error) bool {
	var e *acme.Error
	return errors.As(err, &e) && e.Kind == acme.Permanent
}
