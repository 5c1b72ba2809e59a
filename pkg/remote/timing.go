package remote

import (
	"context"
	"reflect"
	"time"
)

// Timing holds timeouts and delays. If a field is 0, its default applies, which is the
// last value of its comment.
type Timing struct {
	Call          time.Duration // timeout of a request, except long polls and streams; 30 s
	Ping          time.Duration // silence before a connection is tested, and timeout of the test; 15 s
	Stream        time.Duration // timeout of a gateway request; the proxy's is much shorter; 1 h
	StreamSilence time.Duration // timeout for a line of the stream; the proxy sends one every 15 s; 90 s
	LongPoll      time.Duration // how long the proxy may wait before it answers; 30 s
	BetweenPolls  time.Duration // minimum pause, to protect a proxy that does not wait; 500 ms
	NotSoon       time.Duration // maximum time until the proxy begins for which Get waits; 2 min
	ReplaceSoon   time.Duration // maximum time until the proxy begins for which Revoke waits; 1 min
	Busy          time.Duration // how long Enroll retries while the proxy is busy; 1 min
	Hook          time.Duration // timeout of a hook; 10 min
	FirstPoll     time.Duration // poll interval while the proxy obtains a first certificate; 5 s
	ShortestPoll  time.Duration // minimum of RunConfig.Poll; 1 s
}

func defaultTiming() Timing {
	return Timing{
		Call: 30 * time.Second, Ping: 15 * time.Second, Stream: time.Hour, StreamSilence: 90 * time.Second,
		LongPoll: 30 * time.Second, BetweenPolls: 500 * time.Millisecond,
		NotSoon: 2 * time.Minute, ReplaceSoon: time.Minute, Busy: time.Minute, Hook: 10 * time.Minute,
		FirstPoll: 5 * time.Second, ShortestPoll: time.Second,
	}
}

// withDefaults returns t with the defaults for all fields that are 0.
func (t Timing) withDefaults() Timing {
	defaults := reflect.ValueOf(defaultTiming())
	fields := reflect.ValueOf(&t).Elem()
	for i := range fields.NumField() {
		if fields.Field(i).IsZero() {
			fields.Field(i).Set(defaults.Field(i))
		}
	}
	return t
}

// sleep waits for d, or returns the error of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
