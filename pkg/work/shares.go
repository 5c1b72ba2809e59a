package work

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/fair"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// heldBackPause is the time until the next look for due rows when clients have used
// up their shares.
const heldBackPause = time.Second

// Shares divides workers among clients. It is safe for concurrent use.
type Shares struct {
	places   *fair.Places
	heldBack atomic.Bool // the last Take left due rows because their clients' shares are used up
}

// NewShares returns shares within limits.
func NewShares(limits fair.Limits) *Shares {
	return &Shares{places: fair.New(limits)}
}

// Take returns the ids of at most limit due rows within the shares, each with the
// function that releases its place. The rows of all clients take turns, and clients
// for which less work is in progress come first.
func (s *Shares) Take(due []managed.Due, limit int) map[string]func() {
	held := map[string]int{}
	for _, d := range due {
		held[d.ClientID] = s.places.Held(d.ClientID)
	}
	slices.SortStableFunc(due, func(a, b managed.Due) int {
		return cmp.Compare(held[a.ClientID]+a.Turn, held[b.ClientID]+b.Turn)
	})
	taken, heldBack := map[string]func(){}, false
	for _, d := range due {
		if len(taken) == limit {
			break
		}
		if release, ok := s.places.Try(d.ClientID); ok {
			taken[d.ID] = release
		} else {
			heldBack = true
		}
	}
	s.heldBack.Store(heldBack)
	return taken
}

// Next returns when to look for due rows, if the next one is due at next. The time
// is later while clients have used up their shares, because the end of a job wakes
// the loop earlier.
func (s *Shares) Next(now, next time.Time) time.Time {
	if later := now.Add(heldBackPause); s.heldBack.Load() && next.Before(later) {
		return later
	}
	return next
}
