package acmeserver

import (
	"context"
	"time"
)

// steadyFor is how long the clock must have run without a jump before records are
// deleted. A clock that is years ahead after a start would otherwise delete the records of
// valid certificates, which could not be revoked any more.
const steadyFor = 6 * time.Hour

// ifSteady returns a purgeFunc that does nothing until the clock was steady for some time.
func (s *Server) ifSteady(purge purgeFunc) purgeFunc {
	clock := steadiness{now: s.cfg.Now}
	clock.check()
	return func(ctx context.Context, before time.Time, limit int) (more bool, err error) {
		if clock.check() < steadyFor {
			return false, nil
		}
		return purge(ctx, before, limit)
	}
}

// steadiness measures how long a clock has run without a jump. It must not be used
// concurrently.
type steadiness struct {
	now            func() time.Time
	checked, shown time.Time // time of the last check, by the monotonic clock and by now
	since          time.Time // time of the first check after the last jump
}

// check returns for how long the clock has been steady. It must be called more often than
// that.
func (c *steadiness) check() time.Duration {
	checked, shown := time.Now(), c.now().Round(0) // without the monotonic reading
	jump := shown.Sub(c.shown) - checked.Sub(c.checked)
	if c.since.IsZero() || jump.Abs() > clockMargin {
		c.since = checked
	}
	c.checked, c.shown = checked, shown
	return checked.Sub(c.since)
}
