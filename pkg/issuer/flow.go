package issuer

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

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
	if err := f.is.CheckNames(f.names); err != nil {
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
	bundle, err := f.download(order.Certificate)
	if err != nil {
		return nil, err
	}
	bundle.URL = order.Certificate
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
	if f.req.Profile != "" {
		if err := checkProfile(f.req.Profile, f.core.GetDirectory().Meta.Profiles); err != nil {
			return acme.ExtendedOrder{}, permanent("order", "profile: %v", err)
		}
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
