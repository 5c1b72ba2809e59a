package acmeserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// errWaiting means that another order of the same Share is being issued. The storage
// makes this one due when that one ends.
var errWaiting = errors.New("it waits for another order")

// nonsense is an error of the issuer's code, which may never succeed.
type nonsense struct{ reason string }

func (n *nonsense) Error() string { return n.reason }

// mostNonsense bounds how often an issuer is called that fails without a reason.
const mostNonsense = 4

// known holds what a request knows of the order that it finalizes. The loop knows nothing.
type known struct {
	account *Account
	csr     *cert.CSR
}

// process continues an order that is processing and that this instance has a lease of.
func (s *Server) process(ctx context.Context, o Order, k known) {
	work, h := s.hold(ctx, o)
	defer h.drop()
	err := s.obtain(work, h, k)
	if err != nil && errors.Is(context.Cause(work), errLost) {
		err = errLost
	}
	s.settle(ctx, h, err)
}

// obtain completes the order with a certificate that waits for it, or with a new one.
func (s *Server) obtain(ctx context.Context, h *held, k known) error {
	o := h.current()
	if o.expired(s.cfg.Now()) {
		return expiredProblem()
	}
	if done, err := s.completeShared(ctx, h); done || err != nil {
		return err
	}
	if !o.Issuing {
		if err := s.overtake(ctx, h); err != nil {
			return err
		}
		if err := h.takeTurn(ctx); err != nil {
			return err
		}
		if done, err := s.completeShared(ctx, h); done || err != nil {
			return err
		}
	}
	if left := h.current().WaitUntil.Sub(s.cfg.Now()); left > 0 { // it was due earlier for another reason
		return &Later{After: left, Reason: "the issuer asked to wait"}
	}
	c, err := s.issue(ctx, h, k)
	if err != nil {
		return s.unlessSuperseded(ctx, h.current(), err)
	}
	return persist(ctx, func(ctx context.Context) error { return h.complete(ctx, c, false) })
}

// takeTurn marks the order as Issuing, or gives up its lease and returns errWaiting.
func (h *held) takeTurn(ctx context.Context) error {
	return retryStale(func() error {
		err := h.update(ctx, func(o *Order) { o.Issuing = true })
		if !errors.Is(err, ErrTurn) {
			return err
		}
		// ErrStale means that its turn came meanwhile.
		err = h.try(ctx, h.isHeld, func(o *Order) { o.release(o.Expires) }, h.s.cfg.Storage.UpdateOrder)
		if err == nil {
			return errWaiting
		}
		return err
	})
}

// completeShared completes the order with the certificate of another order of the same
// Share with the same key, if there is one.
func (s *Server) completeShared(ctx context.Context, h *held) (done bool, err error) {
	o := h.current()
	if o.Share == "" || o.State != nil || !o.NotBefore.IsZero() || !o.NotAfter.IsZero() {
		return false, nil
	}
	now := s.cfg.Now()
	c, err := s.cfg.Storage.Uncollected(ctx, o.Share, o.KeyHash, now.Add(-s.cfg.Limits.Keep), o.CreatedAt)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("find an uncollected certificate: %w", err)
	case !names(o.Identifiers).Equal(c.Identifiers) || !now.Before(cert.RenewAt(c.NotBefore, c.NotAfter)):
		return false, nil
	case c.NotBefore.After(now.Add(tolerance)): // the clock was ahead, also the CA's
		return false, nil
	}
	same, err := s.cfg.Storage.CertificatesByFingerprint(ctx, c.Fingerprint)
	if err != nil {
		return false, fmt.Errorf("find the records of a certificate: %w", err)
	}
	mine := slices.IndexFunc(same, func(other Certificate) bool { return other.AccountID == o.AccountID })
	if mine >= 0 { // retries must not fill the storage
		return true, persist(ctx, func(ctx context.Context) error {
			return h.finish(ctx, same[mine].ID, true, h.s.cfg.Storage.UpdateOrder)
		})
	}
	c.ID, c.OrderID, c.AccountID, c.Owner = newID(), o.ID, o.AccountID, o.Owner
	c.Collected, c.ReplacedBy = false, ""
	return true, persist(ctx, func(ctx context.Context) error { return h.complete(ctx, c, true) })
}

// complete stores the certificate and the order, which has it.
func (h *held) complete(ctx context.Context, c Certificate, joined bool) error {
	return h.finish(ctx, c.ID, joined, func(ctx context.Context, o Order) error {
		return h.s.cfg.Storage.CompleteOrder(ctx, o, c)
	})
}

// finish makes the order valid, even if another instance holds it now: only this one has
// the certificate.
func (h *held) finish(ctx context.Context, certificate string, joined bool, write func(context.Context, Order) error) error {
	unfinished := func(o Order) bool { return o.Status == StatusProcessing }
	return retryStale(func() error {
		return h.try(ctx, unfinished, func(o *Order) {
			o.Status, o.CertificateID, o.Joined, o.Issuing = StatusValid, certificate, joined, false
			o.CSR, o.State, o.Error = nil, nil, nil
			o.release(time.Time{})
		}, write)
	})
}

// issue calls the issuer and checks its certificate.
func (s *Server) issue(ctx context.Context, h *held, k known) (Certificate, error) {
	o := h.current()
	var err error
	if k.account == nil {
		if k.account, err = s.validAccount(ctx, o.AccountID); err != nil {
			return Certificate{}, err
		}
		if k.csr, err = cert.ParseCSR(o.CSR); err != nil {
			return Certificate{}, problem(acme.BadCSR, 0, "csr: "+err.Error())
		}
	}
	ctx, cancel := context.WithTimeout(ctx, o.Expires.Sub(s.cfg.Now()))
	defer cancel()
	issued, err := s.callIssuer(ctx, IssueRequest{
		Order: o, Account: *k.account, CSR: k.csr, Addr: o.Addr,
		Save: func(ctx context.Context, state []byte) error {
			return h.update(ctx, func(o *Order) { o.State = append([]byte{}, state...) })
		},
	})
	if err != nil {
		return Certificate{}, err
	}
	return s.newCertificate(&o, k.csr, issued)
}

// validAccount returns an account, or the problem that it is no longer valid.
func (s *Server) validAccount(ctx context.Context, id string) (*Account, error) {
	account, err := s.cfg.Storage.AccountByID(ctx, id)
	switch {
	case err != nil && !errors.Is(err, ErrNotFound):
		return nil, fmt.Errorf("read the account: %w", err)
	case err != nil || account.Status != StatusValid:
		return nil, problem(acme.Unauthorized, 0, "the account is no longer valid")
	}
	return &account, nil
}

// callIssuer turns a panic into an error.
func (s *Server) callIssuer(ctx context.Context, r IssueRequest) (issued Issued, err error) {
	defer func() {
		if v := recover(); v != nil {
			s.logger(r.Order).Error("the issuer panicked",
				"cause", panicCause(v), "stack", string(debug.Stack()))
			err = &nonsense{"the issuer panicked"}
		}
	}()
	return (*s.issuer.Load()).Issue(ctx, r)
}

// panicCause describes a panic. The text of most values may hold what must not be logged.
func panicCause(v any) string {
	var fault runtime.Error
	if err, ok := v.(error); ok && errors.As(err, &fault) {
		return fault.Error()
	}
	return fmt.Sprintf("%T", v)
}

// settle records why an order was not completed, and reports the outcome to the requests
// that wait for it.
func (s *Server) settle(ctx context.Context, h *held, err error) {
	change := s.consequence(ctx, h.current(), err)
	switch {
	case err == nil:
	case errors.Is(err, errWaiting):
		return
	case errors.Is(err, errLost):
		s.logger(h.current()).Debug("another instance continues the order")
		return
	default:
		recordErr := persist(ctx, func(ctx context.Context) error { return h.update(ctx, change) })
		s.logFailure(h.current(), err, recordErr)
		if recordErr != nil {
			return // it is continued when the lease ends
		}
	}
	s.turns.tell(h.current())
	if o := h.current(); o.Share != "" || !o.DueAt.IsZero() {
		s.loop.Wake()
	}
}

// consequence returns what an error of an issuance changes.
func (s *Server) consequence(ctx context.Context, o Order, err error) (change func(*Order)) {
	now := s.cfg.Now()
	var refused *acme.Problem
	var later *Later
	var fault *nonsense
	after, failures, asked := delay(o.Failures+1), o.Failures+1, false
	switch {
	case errors.As(err, &refused) && refused != nil:
		return func(o *Order) { o.fail(refused) }
	case ctx.Err() != nil: // the Server stops
		return func(o *Order) { o.release(now) }
	case errors.As(err, &later) && later.After > 0:
		after, failures, asked = later.After, o.Failures, true
	case errors.As(err, &fault) && failures >= mostNonsense:
		return func(o *Order) { o.fail(internalProblem()) }
	}
	due := now.Add(after)
	if due.After(o.Expires) {
		due = o.Expires // where it ends
	}
	return func(o *Order) {
		o.release(due)
		o.Failures, o.WaitUntil = failures, time.Time{}
		if asked {
			o.WaitUntil = due
		}
	}
}

// logger returns the log for events about an order.
func (s *Server) logger(o Order) *slog.Logger {
	return s.cfg.Logger.With("order", o.ID, "owner", o.Owner, "account", o.AccountID, "names", names(o.Identifiers))
}

func (s *Server) logFailure(o Order, err, recordErr error) {
	var refused *acme.Problem
	var later *Later
	switch log := s.logger(o); {
	case errors.Is(recordErr, errLost):
		log.Debug("another instance continues the order")
	case recordErr != nil:
		log.Error("the outcome of an order cannot be stored",
			"error", err, "store_error", recordErr, "next_attempt", o.LeaseUntil)
	case errors.As(err, &refused):
		log.Info("an order failed", "problem", acme.ShortType(refused.Type))
	case o.Status == StatusInvalid:
		log.Error("an order failed", "error", err)
	case errors.As(err, &later):
		log.Debug("the issuer has no certificate yet", "reason", later.Reason, "next_attempt", o.DueAt)
	default:
		log.Warn("the issuer failed", "error", err, "attempt", o.Failures, "next_attempt", o.DueAt)
	}
}
