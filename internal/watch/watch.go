// Package watch lets a test wait for goroutines and processes. A test must not use it
// for its own synchronous calls.
//
//	var log watch.Log
//	cmd.Stderr = &log
//	…
//	watch.Until(t, "it serves", func() bool { return strings.Contains(log.String(), "serving") })
package watch

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"time"
)

// longest is the timeout for a test that waits. It is long, because many tests may
// share a slow machine.
const longest = 5 * time.Minute

// Deadline returns the time at which t should give up. It is a few minutes from now,
// and early enough for t to report the reason.
func Deadline(t testing.TB) time.Time {
	deadline := time.Now().Add(longest)
	if t, ok := t.(*testing.T); ok {
		if end, ok := t.Deadline(); ok && end.Add(-10*time.Second).Before(deadline) {
			return end.Add(-10 * time.Second)
		}
	}
	return deadline
}

// Until waits until ok returns true, and fails t at [Deadline].
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	begin := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for timeout := time.After(time.Until(Deadline(t))); !ok(); {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("waited %v until %s", time.Since(begin).Round(time.Second), what)
		}
	}
}

// Await waits until c is closed or has a value, and fails t at [Deadline].
func Await(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	begin := time.Now()
	select {
	case <-c:
	case <-time.After(time.Until(Deadline(t))):
		t.Fatalf("waited %v until %s", time.Since(begin).Round(time.Second), what)
	}
}

// Log is a log that may be read while it is written. The zero value is empty.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

var _ io.Writer = (*Log)(nil)

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Run starts run in a goroutine. stop cancels its context and waits until it has
// returned.
func Run(t testing.TB, run func(ctx context.Context)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}
