package remote

import (
	"context"
	"sync"
	"time"
)

// Change holds the settings that a running daemon takes over.
type Change struct {
	Wanted []Wanted
	Poll   time.Duration
}

// change begins to take over new settings, in a goroutine of work. The result is nil or
// an error, once. Turns in progress finish with the earlier settings.
func (d *daemon) change(ctx context.Context, c Change, work *sync.WaitGroup) (result <-chan error) {
	done := make(chan error, 1)
	d.changedPoll.Store(int64(c.Poll))
	work.Go(func() { done <- d.reconcile(ctx, c.Wanted) })
	return done
}

// changed ends a change. Every certificate gets a turn now, as after a start, or after
// its present turn, which is marked in freed.
func (d *daemon) changed(ctx context.Context, err error, freed map[string]bool) {
	switch {
	case ctx.Err() != nil:
	case err != nil:
		d.Logger.Error("reloaded only in part; reload again", "error", err)
	default:
		d.Logger.Info("reloaded", "poll", d.interval().String())
	}
	clear(d.next)
	for path := range d.busy {
		freed[path] = true
	}
	d.tryNow()
}
