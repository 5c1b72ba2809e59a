package acmeserver

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	purgeNonces  = 10 * time.Minute // period for used nonces
	purgeRecords = time.Hour        // period for everything else
	correctEvery = 5 * time.Minute  // period for the dates of orders
	purgeLimit   = 500              // records of one kind in one transaction
	purgeMost    = 1000             // transactions in one period
	purgeTimeout = time.Minute      // for one transaction

	// clockMargin is how far the clocks of two instances may differ. A used nonce must
	// not be deleted while another instance still accepts it. An order that was created
	// later than now by more than that, was created while a clock was ahead.
	clockMargin = 10 * time.Minute
)

// purge deletes ended records from the storage until ctx ends.
func (s *Server) purge(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { s.purgeEvery(ctx, purgeNonces, clockMargin, s.cfg.Storage.PurgeNonces) })
	all.Go(func() { s.purgeEvery(ctx, purgeRecords, s.cfg.Limits.Keep, s.ifSteady(s.cfg.Storage.Purge)) })
	all.Go(func() { s.purgeEvery(ctx, correctEvery, -clockMargin, s.correctDates) })
	all.Wait()
}

// correctDates implements purgeFunc. It lets orders end that a clock left which was ahead:
// they would keep others with the same Share waiting until that time.
func (s *Server) correctDates(ctx context.Context, latest time.Time, limit int) (more bool, err error) {
	n, err := s.cfg.Storage.CorrectDates(ctx, s.cfg.Now(), latest, limit)
	if n > 0 {
		s.cfg.Logger.Warn("orders were dated in the future: the clock was ahead, or is behind now", "orders", n)
		s.loop.Wake()
	}
	return n > 0, err
}

// purgeFunc deletes at most limit records that ended before a time.
type purgeFunc func(ctx context.Context, before time.Time, limit int) (more bool, err error)

// purgeEvery calls purge once in a period. Several instances of one storage begin at
// different times.
func (s *Server) purgeEvery(ctx context.Context, period, keep time.Duration, purge purgeFunc) {
	timer := time.NewTimer(rand.N(period / 4))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		pause := period - rand.N(period/10)
		more, err := s.purgeNow(ctx, keep, purge)
		switch {
		case err != nil && ctx.Err() == nil:
			s.cfg.Logger.Warn("purge failed", "error", err)
		case more: // a flood creates them faster than one period allows
			pause = time.Second
		}
		timer.Reset(pause)
	}
}

func (s *Server) purgeNow(ctx context.Context, keep time.Duration, purge purgeFunc) (more bool, err error) {
	before := s.cfg.Now().Add(-keep)
	for range purgeMost {
		bounded, cancel := context.WithTimeout(ctx, purgeTimeout)
		more, err = purge(bounded, before, purgeLimit)
		cancel()
		if err != nil || !more {
			return false, err
		}
	}
	return true, nil
}
