package acmeserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// mostOvertaken bounds how many orders one order supersedes at a time.
const mostOvertaken = 300

// overtake makes room for an order that has not had its turn, if the one whose turn it is
// failed and waits for its next attempt. If no client waits for that one any more, it is
// superseded, with all others for which that holds. Otherwise it is tried at once, unless
// the issuer asked to wait: a client that orders again shows that the cause may be fixed.
func (s *Server) overtake(ctx context.Context, h *held) error {
	o := h.current()
	if o.Share == "" {
		return nil
	}
	turn, others, err := s.cfg.Storage.OrdersByShare(ctx, o.Share, mostOvertaken)
	if err != nil {
		return fmt.Errorf("find orders for the same certificate: %w", err)
	}
	if turn == "" || turn == o.ID {
		return nil
	}
	first, err := s.cfg.Storage.Order(ctx, turn)
	if err != nil || !first.isIdle() {
		return unlessChanged(err)
	}
	if !o.supersedes(&first) {
		return s.wakeOrder(ctx, first)
	}
	if first.WaitUntil.After(o.WaitUntil) { // also in the name of this one
		if err := h.update(ctx, func(o *Order) { o.WaitUntil = first.WaitUntil }); err != nil {
			return err
		}
	}
	if err := s.supersedeIdle(ctx, o, others); err != nil {
		return err
	}
	return unlessChanged(s.supersede(ctx, first)) // the last one, because it ends its turn
}

// isIdle reports whether an order is processing, and no instance works on it.
func (o *Order) isIdle() bool { return o.Status == StatusProcessing && o.LeaseOwner == "" }

// supersedes reports whether no client waits for an older order, because its account wants the
// same certificate for another key now. Another account may be another host, which waits.
// An order that may be known elsewhere is completed.
func (o *Order) supersedes(older *Order) bool {
	return older.AccountID == o.AccountID && older.Share == o.Share && o.Share != "" && older.State == nil &&
		older.KeyHash != o.KeyHash && older.isOlder(o)
}

func (o *Order) isOlder(other *Order) bool {
	return cmp.Or(o.CreatedAt.Compare(other.CreatedAt), cmp.Compare(o.ID, other.ID)) < 0
}

// unlessChanged ignores that an order has changed meanwhile, or does not exist any more.
func unlessChanged(err error) error {
	if errors.Is(err, ErrStale) || errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// wakeOrder ends the delay after a failure of the issuer.
func (s *Server) wakeOrder(ctx context.Context, o Order) error {
	due := s.cfg.Now()
	if o.WaitUntil.After(due) {
		due = o.WaitUntil
	}
	if !o.DueAt.After(due) {
		return nil
	}
	o.DueAt = due
	err := s.cfg.Storage.UpdateOrder(ctx, o)
	if err == nil {
		s.loop.Wake()
	}
	return unlessChanged(err)
}

// supersedeIdle ends those of some orders that are idle and that a newer one supersedes.
// It has one of them in memory at a time, because there may be many, and each large.
func (s *Server) supersedeIdle(ctx context.Context, newer Order, ids []string) error {
	for _, id := range ids {
		o, err := s.cfg.Storage.Order(ctx, id)
		if err == nil && o.isIdle() && newer.supersedes(&o) {
			err = s.supersede(ctx, o)
		}
		if err := unlessChanged(err); err != nil {
			return err
		}
	}
	return nil
}

// newest returns the newest processing order of the account among an order and others, as
// far as supersedes needs it.
func (s *Server) newest(ctx context.Context, o Order, others []string) (Order, error) {
	for _, id := range others {
		other, err := s.cfg.Storage.Order(ctx, id)
		if err := unlessChanged(err); err != nil {
			return o, err
		}
		if err == nil && other.AccountID == o.AccountID && other.Status == StatusProcessing && o.isOlder(&other) {
			o = Order{ID: other.ID, AccountID: other.AccountID, Share: other.Share, KeyHash: other.KeyHash, CreatedAt: other.CreatedAt}
		}
	}
	return o, nil
}

// supersede ends an idle order. It returns ErrStale if the order has changed.
func (s *Server) supersede(ctx context.Context, o Order) error {
	o.fail(supersededProblem())
	if err := s.cfg.Storage.UpdateOrder(ctx, o); err != nil {
		return err
	}
	s.noteSuperseded(ctx, o)
	s.turns.tell(o)
	return nil
}

// unlessSuperseded returns the error of a failed attempt, or the problem that a newer order
// superseded this one meanwhile. The newest order also supersedes the others that wait.
func (s *Server) unlessSuperseded(ctx context.Context, o Order, err error) error {
	var refused *acme.Problem
	var later *Later
	if o.Share == "" || o.State != nil || ctx.Err() != nil || errors.As(err, &refused) || errors.As(err, &later) {
		return err
	}
	_, others, lookErr := s.cfg.Storage.OrdersByShare(ctx, o.Share, mostOvertaken)
	if lookErr != nil {
		return err // the next attempt looks again
	}
	newest, lookErr := s.newest(ctx, o, others)
	if lookErr != nil || s.supersedeIdle(ctx, newest, others) != nil || !newest.supersedes(&o) {
		return err
	}
	s.noteSuperseded(ctx, o) // before the other one has its turn
	return supersededProblem()
}

func (s *Server) noteSuperseded(ctx context.Context, o Order) {
	if issuer, ok := (*s.issuer.Load()).(Superseder); ok {
		issuer.Superseded(ctx, o)
	}
	s.logger(o).Info("an order was superseded")
}

func supersededProblem() *acme.Problem {
	return problem(acme.ServerInternal, 0, "the order is superseded: before the CA received it, there was a newer one "+
		"for the same identifiers with another key; use that one")
}
