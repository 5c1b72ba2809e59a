//go:build unix

package remote

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// A daemon that is asked to stop while another process holds the lock of a
// certificate ends like at any other stop.
func TestStoppedWhileLocked(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	w := want(t, s, clients.ModeAgent)
	unlock, err := lock(t.Context(), lockPath(s.keptPath(w.Mode, w.Names)))
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

// Another process holds a lock of the state directory for ever. The wait ends.
func TestLockIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	synctest.Test(t, func(t *testing.T) {
		if _, err := lock(t.Context(), path); err == nil || !strings.Contains(err.Error(), "another process has held "+path) {
			t.Error(err)
		}
	})
}

// A pipe instead of an identity is an error, not a wait without end.
func TestIdentityIsAPipe(t *testing.T) {
	s := newEvil(t).enrolled(t)
	path := filepath.Join(t.TempDir(), "identity")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.recipientOf(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Error(err)
	}
	s.enrolment.Former = []string{path}
	if err := s.enrolment.write(s.path(enrolmentName)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.identities(); err != nil { // the present one opens bundles all the same
		t.Error(err)
	}
}
