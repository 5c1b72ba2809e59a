package remote

import (
	"log/slog"
	"sync"
	"testing"
	"time"
)

// Turns in progress read the interval while a reload changes it (X19). The race detector
// finds an access without a lock.
func TestChangeDuringTurns(t *testing.T) {
	t.Parallel()
	s := newEvil(t).enrolled(t)
	d := &daemon{timing: defaultTiming(), RunConfig: RunConfig{State: s, Poll: time.Hour, Logger: slog.New(slog.DiscardHandler)}}
	var turns sync.WaitGroup
	turns.Go(func() { d.poll() })
	if err := <-d.change(t.Context(), Change{Poll: time.Minute}, &turns); err != nil {
		t.Fatal(err)
	}
	turns.Wait()
	if p := d.poll(); p < 50*time.Second || p > 70*time.Second {
		t.Errorf("the interval is %s", p)
	}
}
