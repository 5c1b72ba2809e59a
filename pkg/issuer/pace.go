package issuer

import (
	"context"
	"sync"
	"time"
)

const (
	firstPoll = time.Millisecond
	steepPoll = 16 * time.Millisecond // waits up to this one become four times longer each time
	lastPoll  = 3 * time.Second
	longWait  = 2 * time.Minute // maximum pause between polls; a longer Retry-After is reduced to it
)

// pace learns how long a CA takes for one kind of work, so that one poll is usually
// enough. Each success makes the next first poll a little earlier, each early poll
// makes it later.
type pace struct {
	mu    sync.Mutex
	guess time.Duration // guarded by mu; 0 before the first success
}

func (p *pace) firstDelay() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(p.guess, firstPoll)
}

// learn adjusts the guess to the time and the number of polls that the work took. It
// leaves a guess that is far too short sooner, so that few orders have many polls.
func (p *pace) learn(took time.Duration, polls int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := max(p.guess, firstPoll)
	switch {
	case polls <= 1:
		p.guess = g * 9 / 10
	case polls == 2:
		p.guess = min(took, g*3/2, lastPoll)
	default:
		p.guess = min(took, g*4, lastPoll)
	}
}

// poller waits between polls. It waits for the learned time first, then longer each
// time, and never waits less than the CA's Retry-After.
type poller struct {
	pace  *pace
	next  time.Duration
	start time.Time
	polls int
}

func (p *pace) newPoller() *poller { return &poller{pace: p, next: p.firstDelay(), start: time.Now()} }

// longer returns the wait after a poll that came too soon. The steep beginning lets a
// fast CA be polled after a millisecond, but a slow one no more often than with a first
// wait of five milliseconds.
func longer(delay time.Duration) time.Duration {
	if delay <= steepPoll {
		return delay * 4
	}
	return min(max(delay*2, 4*steepPoll), lastPoll)
}

// wait waits until the next poll is due. retryAt is the Retry-After of an answer that
// was not a refusal. Some CAs send a day there but finish in seconds, so a longer time
// than longWait is reduced to longWait and delays no later attempt.
func (p *poller) wait(ctx context.Context, op string, retryAt time.Time, now func() time.Time) error {
	delay := p.next
	p.next = longer(p.next)
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

// done ends the polls and learns from them.
func (p *poller) done() { p.pace.learn(time.Since(p.start), p.polls) }
