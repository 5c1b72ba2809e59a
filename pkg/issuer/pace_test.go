package issuer

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// A Retry-After on an answer that is not a refusal delays the next poll by two
// minutes at most, and delays no later attempt. ZeroSSL sends a day and finishes in
// seconds.
func TestLongRetryAfterOfAPoll(t *testing.T) {
	for name, c := range map[string]struct{ asked, least, most time.Duration }{
		"a day":   {24 * time.Hour, longWait, longWait},
		"an hour": {time.Hour, longWait, longWait},
		"short":   {15 * time.Second, 15 * time.Second, 15 * time.Second},
		"over":    {-time.Hour, 0, lastPoll},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := new(pace).newPoller()
				begun := time.Now()
				if err := p.wait(t.Context(), "poll", begun.Add(c.asked), time.Now); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); took < c.least || took > c.most {
					t.Errorf("the next poll came after %s, want %s to %s", took, c.least, c.most)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				var failed *acme.Error
				err := p.wait(ctx, "poll", time.Now().Add(c.asked), time.Now)
				if !errors.As(err, &failed) || failed.Kind != acme.Temporary || failed.RetryAt.After(time.Now().Add(longWait)) {
					t.Errorf("the attempt ended with %+v, want no delay of the next one", err)
				}
			})
		})
	}
}

// A CA without a Retry-After is polled once soon if it is fast, and rarely if it is slow.
// The numbers before are those with a first wait of 5 ms, which a slow CA must not exceed.
func TestNumberOfPolls(t *testing.T) {
	type polls struct{ first, twenty, later int } // of the first order, of the first twenty, and the median of later ones
	for _, c := range []struct {
		needs       time.Duration
		now, before polls
	}{
		{0, polls{1, 20, 1}, polls{1, 20, 1}},
		{50 * time.Millisecond, polls{4, 31, 1}, polls{4, 33, 1}},
		{time.Second, polls{8, 47, 1}, polls{8, 72, 1}},
		{10 * time.Second, polls{11, 106, 4}, polls{12, 142, 4}},
	} {
		t.Run(c.needs.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var p pace
				var all []int
				got := polls{}
				for n := range 100 {
					all = append(all, countPolls(t, &p, c.needs))
					if n < 20 {
						got.twenty += all[n]
					}
				}
				got.first = all[0]
				later := slices.Sorted(slices.Values(all[20:]))
				got.later = later[len(later)/2]
				if got != c.now {
					t.Errorf("%+v, want %+v", got, c.now)
				}
				if most := slices.Max(all); most > c.before.first || got.twenty > c.before.twenty {
					t.Errorf("%d polls of one order, %+v of all; before: %+v", most, got, c.before)
				}
			})
		})
	}
}

// However long a CA needs, a short first wait costs it no more polls than one of 5 ms that
// is doubled each time, from 75 ms on.
func TestPollsOfSlowCA(t *testing.T) {
	for first := firstPoll; first < lastPoll; first = first*101/100 + 1 {
		ours, old := first, max(first, 5*time.Millisecond) // the next wait of each
		for oursAt, oldAt, n := ours, old, 1; n < 60; n++ {
			if oldAt >= 75*time.Millisecond && oursAt < oldAt {
				t.Errorf("after a first wait of %s, poll %d comes after %s, before %s", first, n, oursAt, oldAt)
			}
			ours, old = longer(ours), min(old*2, lastPoll)
			oursAt, oldAt = oursAt+ours, oldAt+old
		}
	}
}

// countPolls returns the polls of a CA that needs some time.
func countPolls(t *testing.T, p *pace, needs time.Duration) (polls int) {
	t.Helper()
	begun := time.Now()
	for poll := p.newPoller(); ; {
		if err := poll.wait(t.Context(), "poll", time.Time{}, time.Now); err != nil {
			t.Fatal(err)
		}
		if polls++; time.Since(begun) >= needs {
			poll.done()
			return polls
		}
	}
}
