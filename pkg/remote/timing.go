package remote

import (
	"context"
	"reflect"
	"time"
)

// Timing holds timeouts and pauses. A field that is 0 has its default.
type Timing struct {
	Call          time.Duration // of one request, long polls and streams excepted; 30 s
	Ping          time.Duration // after which a silent connection is tested, and for the answer; 15 s
	Stream        time.Duration // of a gateway request; the proxy gives up much earlier; 1 h
	StreamSilence time.Duration // of a gateway request; the proxy sends a line every 15 s; 90 s
	LongPoll      time.Duration // for which the proxy may hold back a question; 30 s
	BetweenPolls  time.Duration // least pause, so that a proxy that does not wait is not hammered; 500 ms
	NotSoon       time.Duration // until the proxy begins, beyond which Get does not wait; 2 min
	ReplaceSoon   time.Duration // until the proxy begins, beyond which Revoke does not wait; 1 min
	Busy          time.Duration // for which a call is repeated while the proxy has no place for it; 1 min
	Hook          time.Duration // of a run of a hook; 10 min
	FirstPoll     time.Duration // pause of the daemon while the proxy obtains a first certificate; 5 s
	ShortestPoll  time.Duration // least RunConfig.Poll; 1 s
}

func defaultTiming() Timing {
	return Timing{
		Call: 30 * time.Second, Ping: 15 * time.Second, Stream: time.Hour, StreamSilence: 90 * time.Second,
		LongPoll: 30 * time.Second, BetweenPolls: 500 * time.Millisecond,
		NotSoon: 2 * time.Minute, ReplaceSoon: time.Minute, Busy: time.Minute, Hook: 10 * time.Minute,
		FirstPoll: 5 * time.Second, ShortestPoll: time.Second,
	}
}

// withDefaults returns t with the default of each field that is 0.
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
