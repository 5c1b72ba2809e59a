package issuer

import (
	"context"
	"sync"
	"time"
)

const (
	firstPoll = 5 * time.Millisecond
	lastPoll  = 3 * time.Second
	longWait  = 2 * time.Minute // the longest pause between polls, whatever the CA asks for
)

// pace learns how long a CA takes for one kind of work, so that the first poll
// mostly is the only one: a little earlier after each success, later after a
// poll that came too soon.
type pace struct {
	mu    sync.Mutex
	guess time.Duration // guarded by mu; 0: nothing learned yet
}

func (p *pace) first() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(p.guess, firstPoll)
}

// learn is told how long it took and how many polls.
func (p *pace) learn(took time.Duration, polls int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := max(p.guess, firstPoll)
	if polls <= 1 {
		p.guess = g * 9 / 10
		return
	}
	p.guess = min(took, g*3/2, lastPoll)
}

// poller waits between polls: the learned time first, then doubling, and never
// less than the CA's Retry-After.
type poller struct {
	pace  *pace
	next  time.Duration
	start time.Time
	polls int
}

func (p *pace) poller() *poller { return &poller{pace: p, next: p.first(), start: time.Now()} }

// wait returns when it is time for the next poll. retryAt is the Retry-After of an
// answer that was no refusal. Some CAs send a day there and are done in seconds, so
// more than longWait counts as longWait and delays no later attempt.
func (p *poller) wait(ctx context.Context, op string, retryAt time.Time, now func() time.Time) error {
	delay := p.next
	p.next = min(p.next*2, lastPoll)
	p.polls++
	if !retryAt.IsZero() {
		delay = max(delay, retryAt.Sub(now()))
	}
	if delay > longWait {
		delay, retryAt = longWait, time.Time{}
	}
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return classify(op, ctx.Err(), retryAt)
	}
}

// done ends the wait and learns from it.
func (p *poller) done() { p.pace.learn(time.Since(p.start), p.polls) }
