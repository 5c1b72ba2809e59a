package store_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// listen hears until the test ends; connected and down get one for each call.
func listen(t *testing.T, s *store.Store) (heard chan string, connected chan struct{}, down chan error) {
	t.Helper()
	heard, connected, down = make(chan string, 64), make(chan struct{}, 64), make(chan error, 64)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		s.Listen(ctx, func() { connected <- struct{}{} }, func(text string) { heard <- text }, func(err error) { down <- err })
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return heard, connected, down
}

// Who listens hears all that is sent on the same database, in its order, and
// again after the connection broke (D14, X18).
func TestNotify(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	one, two, other := openURL(t, url, nil), openURL(t, url, nil), openURL(t, server.Database(t), nil)
	heard, connected, down := listen(t, two)
	elsewhere, connectedToo, _ := listen(t, other)
	<-connected
	<-connectedToo
	longest := strings.Repeat("x", sqldb.MaxNotice)
	send := func(texts ...string) {
		t.Helper()
		for _, text := range texts {
			if err := one.Notify(t.Context(), text); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range texts {
			if got := <-heard; got != want {
				t.Errorf("heard %.20q, want %.20q", got, want)
			}
		}
	}
	send("a", "b'\\\n", longest)
	for _, text := range []string{"", longest + "x"} {
		if err := one.Notify(t.Context(), text); err == nil {
			t.Errorf("%d bytes were taken", len(text))
		}
	}
	server.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
	if err := <-down; err == nil || strings.Contains(err.Error(), server.Password) {
		t.Error(err)
	}
	<-connected
	send("again")

	server.Stop()
	if err := <-down; !strings.HasPrefix(err.Error(), "listen: ") || strings.Contains(err.Error(), server.Password) {
		t.Error(err)
	}
	if err := one.Notify(t.Context(), "x"); !errors.Is(err, managed.ErrUnreachable) {
		t.Errorf("without a server: %v", err)
	}
	if err := server.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-connected
	send("back")
	if len(elsewhere) != 0 {
		t.Errorf("on another database: %q", <-elsewhere)
	}
}

// A SQLite database has one instance, so no other can be notified.
func TestNotifySQLite(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"), nil)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	heard, connected, down := listen(t, s)
	if err := s.Notify(t.Context(), "x"); err != nil {
		t.Error(err)
	}
	if len(heard)+len(connected)+len(down) != 0 {
		t.Error("something was heard")
	}
}
