package acmeserver

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// orders is the work.Source of the Server's loop: challenges to validate, and orders to
// continue.
type orders struct{ s *Server }

// Claim implements work.Source.
func (q orders) Claim(ctx context.Context, limit int) (jobs []work.Job, err error) {
	s := q.s
	now := s.cfg.Now()
	claimed, err := s.cfg.Storage.ClaimOrders(ctx, s.cfg.Owner, now, now.Add(lease), limit)
	if err != nil { // the leases may not be stored
		return nil, err
	}
	for _, o := range claimed {
		places, do := s.turns.validations, s.validate
		if o.Status == StatusProcessing {
			places, do = s.turns.issuances, s.resume
		}
		jobs = append(jobs, func(ctx context.Context) {
			limited, cancel := context.WithTimeout(ctx, placeWait)
			defer cancel()
			release, err := places.Acquire(limited, o.Owner, nil)
			if err != nil {
				s.postpone(ctx, o)
				return
			}
			defer release()
			do(ctx, o)
		})
	}
	return jobs, nil
}

func (s *Server) resume(ctx context.Context, o Order) { s.process(ctx, o, known{}) }

// lookAgain is how often a Server looks for orders that another instance left.
const lookAgain = 10 * time.Second

// Next implements work.Source.
func (q orders) Next(ctx context.Context) (time.Time, error) {
	now := q.s.cfg.Now()
	next, err := q.s.cfg.Storage.NextOrder(ctx, now)
	latest := now.Add(lookAgain)
	if errors.Is(err, ErrNotFound) || err == nil && next.After(latest) {
		return latest, nil
	}
	return next, err
}

// An order whose owner has used up its share of the places waits with a lease for a short
// time, and then without one for a longer time.
const (
	placeWait    = 2 * time.Second
	postponement = 10 * time.Second
)

// postpone gives up the lease of an order for which there is no place.
func (s *Server) postpone(ctx context.Context, o Order) {
	_, h := s.hold(ctx, o)
	defer h.drop()
	due := s.cfg.Now().Add(postponement - rand.N(postponement/4))
	err := persist(ctx, func(ctx context.Context) error {
		return h.update(ctx, func(o *Order) { o.release(due) })
	})
	if err != nil && !errors.Is(err, errLost) {
		s.logger(o).Warn("cannot postpone an order", "error", err, "next_attempt", o.LeaseUntil)
	}
}
