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
	key    crypto.Signer // nil if the client has it
	public crypto.PublicKey

	s    *session
	core *api.Core

	continued []challenge.OrderAnswer // answers that an earlier attempt has left
	answers   []challenge.OrderAnswer // those of this attempt, once the order looks validated
	accepted  bool                    // the CA took the CSR, so it needs no answer any more
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
	if err := f.ca.CheckNames(f.names); err != nil {
		return permanent(prepare, "%v", err)
	}
	return nil
}

// keyFunc generates a key for a client. It tells queued if the client has to wait.
type keyFunc func(ctx context.Context, client string, t cert.KeyType, queued func()) (crypto.Signer, error)

// makeKey generates the key and the CSR where the client sent none. It takes
// seconds of work for the longest keys, so this comes before the place.
func (f *flow) makeKey(ctx context.Context, generate keyFunc) error {
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

// queued tells the client that it waits for others.
func (f *flow) queued() { f.emit(acme.Event{Stage: acme.Queued}) }

// run takes the order from wherever it stands to the certificate.
func (f *flow) run(ctx context.Context, acc account) (_ *cert.Bundle, err error) {
	f.s = f.ca.wire.session(ctx)
	if f.core, err = f.ca.core(f.s, acc); err != nil {
		return nil, err
	}
	defer func() {
		if f.accepted {
			challenge.RemoveAll(f.answers)
			f.answers = nil
		}
		f.leave(f.req.Order.URL, append(f.answers, f.continued...), err)
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
	bundle, err := f.download(order.Certificate)
	if err != nil {
		return nil, err
	}
	bundle.CA, bundle.URL = f.ca.cfg.DirectoryURL, order.Certificate
	f.emit(acme.Event{Stage: acme.Issued})
	return bundle, nil
}

// order resumes the one of the request if it still serves, or begins one.
func (f *flow) order(ctx context.Context) (legoacme.ExtendedOrder, error) {
	f.emit(acme.Event{Stage: acme.Ordering})
	if f.req.Order.URL != "" {
		order, err := f.resume()
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
			return order, &acme.Error{Kind: acme.Temporary, Op: "keep the order", Detail: err.Error(), Err: err}
		}
	}
	f.req.Order = cert.Order{CA: f.ca.cfg.DirectoryURL, URL: order.Location}
	return order, nil
}

// resume reads the order of the request again. An order without a location and
// without an error is gone, spent or another's: only a new one helps.
func (f *flow) resume() (legoacme.ExtendedOrder, error) {
	f.continued = f.ca.kept.Take(f.req.Order.URL)
	order, err := read(f.s, func() (legoacme.ExtendedOrder, error) {
		order, err := f.core.Orders.Get(f.req.Order.URL)
		if err != nil || !f.ours(order) {
			return legoacme.ExtendedOrder{}, err
		}
		return f.checkOrder(order, legoacme.ExtendedOrder{Location: f.req.Order.URL}, f.req.Order.URL)
	})
	if err == nil {
		if order.Status == legoacme.StatusInvalid {
			order = legoacme.ExtendedOrder{}
		}
		return order, nil
	}
	err = f.failed("read the order again", err)
	if isPermanent(err) || statusOf(err) == http.StatusNotFound {
		return legoacme.ExtendedOrder{}, nil
	}
	return order, err
}

var errNoLocation = errors.New("the CA did not say where the order is")

// newOrder begins an order. If the answer is lost, there may be one of which
// nobody knows the URL: that is risked once.
func (f *flow) newOrder() (legoacme.ExtendedOrder, error) {
	risked := false
	again := func(err error) bool {
		if !transient(err) {
			return false
		}
		if !unclear(err) {
			return true
		}
		if risked || !unanswered(err) && !errors.Is(err, errNoLocation) {
			return false
		}
		risked = true
		return true
	}
	return repeat(f.s, again, func() (legoacme.ExtendedOrder, error) {
		order, err := f.core.Orders.NewWithOptions(f.names, &api.OrderOptions{Profile: f.req.Profile})
		if err == nil && order.Location == "" {
			err = errNoLocation
		}
		if err != nil {
			return order, err
		}
		return f.checkOrder(order, order, f.core.GetDirectory().NewOrderURL)
	})
}

// readOrder reads an order again.
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
	mostFinalize = 4  // times that a CSR is sent for one order
	patientPolls = 3  // polls of an order that seems untouched by finalize
	mostStalled  = 14 // polls of one that makes no progress: half a minute
)

// obtain finalizes the order, if nobody has yet, and polls it until the
// certificate is there. The answer to finalize does not matter much: the order
// itself tells what came of it.
func (f *flow) obtain(ctx context.Context, order legoacme.ExtendedOrder) (legoacme.ExtendedOrder, error) {
	const op = "wait for the certificate"
	var err error
	polls := f.ca.signing.poller()
	finalized, stalled := 0, 0
	for {
		switch {
		case order.Status == legoacme.StatusInvalid:
			return order, f.invalid(op, order)
		case order.Status == legoacme.StatusValid && order.Certificate != "":
			polls.done()
			return order, nil
		case order.Status == legoacme.StatusReady && finalized < mostFinalize && (finalized == 0 || stalled >= patientPolls):
			if order, err = f.finalize(order); err != nil {
				return order, err
			}
			finalized, stalled = finalized+1, 0
			polls = f.ca.signing.poller()
			continue
		case order.Status != legoacme.StatusProcessing:
			if stalled++; stalled > mostStalled {
				return order, &acme.Error{Kind: acme.Temporary, Op: op, Detail: fmt.Sprintf("the order stays %q and has no certificate", order.Status)}
			}
		}
		if err := polls.wait(ctx, op, f.s.retryAfter(order.Location), f.s.now); err != nil {
			return order, err
		}
		if order, err = f.readOrder(order); err != nil {
			return order, missing(f.failed(op, err))
		}
	}
}

// finalize sends the CSR. After a failure that says nothing about the CSR, the
// order is read: it may have been finalized all the same.
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
		if !transient(err) && !isProblem(err, acme.OrderNotReady) || !f.s.pause(n, err) {
			return order, f.failed(op, err)
		}
		if isProblem(err, acme.BadNonce) { // the CA has not handled it
			continue
		}
		now, unread := f.readOrder(order)
		if unread != nil {
			return order, missing(f.failed(op, unread))
		}
		if order = now; order.Status != legoacme.StatusReady {
			f.emit(acme.Event{Stage: acme.Issuing})
			return order, nil
		}
	}
}

// invalid finds out why: the authorization that failed knows best.
func (f *flow) invalid(op string, order legoacme.ExtendedOrder) error {
	for _, url := range order.Authorizations {
		if authz, err := f.authorization(url); err == nil && authz.Status == legoacme.StatusInvalid {
			return authzError(authz)
		}
	}
	e := permanent(op, "the CA made the order invalid and did not say why")
	if order.Error != nil {
		e = fromProblem(op, ours(order.Error), time.Time{}, order.Error)
	}
	e.Final = true
	return e
}

// failed types an error of lego's; nil stays nil.
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
