package acmeserver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// lease is how long an order is held without renewal. If an instance dies, another one
// continues its orders after that time.
const lease = 30 * time.Second

// errLost means that another instance holds the order, or that it ended.
var errLost = errors.New("the lease was lost")

// held is an order that this Server works on. It extends the lease until it is dropped.
type held struct {
	s    *Server
	lose context.CancelCauseFunc

	mu    sync.Mutex // guards order
	order Order      // as it was written last
}

// hold begins to extend the lease of a claimed order. The returned context ends when the
// lease is lost. The caller must call drop.
func (s *Server) hold(ctx context.Context, o Order) (context.Context, *held) {
	ctx, lose := context.WithCancelCause(ctx)
	h := &held{s: s, order: o, lose: lose}
	go h.extend(ctx, o.ID)
	return ctx, h
}

func (h *held) drop() { h.lose(context.Canceled) }

func (h *held) extend(ctx context.Context, id string) {
	t := time.NewTicker(lease / 3)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := h.s.cfg.Storage.ExtendOrder(ctx, id, h.s.cfg.Owner, h.s.cfg.Now().Add(lease))
		if errors.Is(err, ErrStale) || errors.Is(err, ErrNotFound) {
			h.lose(errLost)
			return
		}
		// Another error may end before the lease does.
	}
}

// current returns the order as it was written last.
func (h *held) current() Order {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.order
}

// update changes the order, which must still be held. change may be called again, with
// the order as a request left it.
func (h *held) update(ctx context.Context, change func(*Order)) error {
	return retryStale(func() error {
		return h.try(ctx, h.isHeld, change, h.s.cfg.Storage.UpdateOrder)
	})
}

// isHeld reports whether this instance still holds the order, and it has not ended.
func (h *held) isHeld(o Order) bool {
	return o.LeaseOwner == h.s.cfg.Owner && (o.Status == StatusProcessing) == (h.order.Status == StatusProcessing)
}

// retryStale tries again while the order changes meanwhile.
func retryStale(try func() error) error {
	err := try()
	for i := 1; i < maxTries && errors.Is(err, ErrStale); i++ {
		err = try()
	}
	return err
}

// try writes a change once. With ErrStale, the order has been read again, and is still
// mine. It returns errLost if it is not.
func (h *held) try(
	ctx context.Context, mine func(Order) bool, change func(*Order), write func(context.Context, Order) error,
) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := copyOrder(h.order)
	o.LeaseUntil = h.s.cfg.Now().Add(lease)
	change(&o)
	err := write(ctx, o)
	switch {
	case err == nil:
		o.Version++
		h.order = o
		return nil
	case !errors.Is(err, ErrStale) && !errors.Is(err, ErrNotFound):
		return err
	}
	fresh, readErr := h.s.cfg.Storage.Order(ctx, o.ID)
	switch {
	case errors.Is(readErr, ErrNotFound) || readErr == nil && !mine(fresh):
		h.lose(errLost)
		return errLost
	case readErr != nil:
		return fmt.Errorf("read an order: %w", readErr)
	}
	h.order = fresh
	return err
}

// persist retries a write while the storage fails, as work.Persist does.
func persist(ctx context.Context, write func(ctx context.Context) error) error {
	return work.PersistIf(ctx, func(err error) bool { return !isAnswer(err) }, write)
}

// isAnswer reports whether an error is an answer of the storage, which a retry would
// not change.
func isAnswer(err error) bool {
	for _, answer := range []error{errLost, ErrStale, ErrNotFound, ErrExists, ErrTurn} {
		if errors.Is(err, answer) {
			return true
		}
	}
	return false
}

// release gives up the lease, so that the order is claimed again when it is due.
func (o *Order) release(due time.Time) { o.LeaseOwner, o.LeaseUntil, o.DueAt = "", time.Time{}, due }

// fail makes an order invalid.
func (o *Order) fail(cause *acme.Problem) {
	o.Status, o.Error, o.Issuing, o.CSR = StatusInvalid, cause, false, nil
	o.release(time.Time{})
}

// delay returns the wait after a number of attempts: 1 s, 2 s, 4 s … 5 min.
func delay(attempts int) time.Duration {
	const most = 5 * time.Minute
	if attempts > 9 {
		return most
	}
	return min(time.Second<<max(attempts-1, 0), most)
}
