package remote

import (
	"context"
	"log/slog"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/api"
)

// A daemon that is asked to stop while another process holds the lock of a
// certificate ends like at any other stop.
func TestStoppedWhileLocked(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	w := want(t, s, api.ModeAgent)
	unlock, err := lock(t.Context(), lockOf(s.keptPath(w.Mode, w.Names)))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := Run(ctx, RunConfig{State: s, Wanted: []Wanted{w}, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Error(err)
	}
}
