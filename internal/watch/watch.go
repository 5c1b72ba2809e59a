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
	"io"
	"sync"
	"testing"
	"time"
)

// Until waits for a condition, at most a minute.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for timeout := time.After(time.Minute); !ok(); {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("waited a minute until %s", what)
		}
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
