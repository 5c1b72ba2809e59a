// Package watch lets a test look on while goroutines and processes work. It
// must never be needed for what a test does itself.
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

// longest is the time after which a test that waits must have failed. It is long,
// because many tests may share a slow machine.
const longest = 5 * time.Minute

// Deadline returns the time at which t should give up: a few minutes from now,
// and early enough for t to say why.
func Deadline(t testing.TB) time.Time {
	deadline := time.Now().Add(longest)
	if t, ok := t.(*testing.T); ok {
		if end, ok := t.Deadline(); ok && end.Add(-10*time.Second).Before(deadline) {
			return end.Add(-10 * time.Second)
		}
	}
	return deadline
}

// Until waits for a condition, until [Deadline] at most.
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

// Await waits until c is closed or has a value, until [Deadline] at most.
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

// Run starts run. stop ends its context and returns when it has ended.
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
