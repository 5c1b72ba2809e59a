package renewal_test

import (
	"context"
	"crypto"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/renewal"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// slow is an Issuer that ends only with its context.
type slow struct{ ended chan time.Time }

func (s slow) Issue(ctx context.Context, req cert.Request, _ func(acme.Event)) (*cert.Bundle, error) {
	if err := req.OnOrder(ctx, cert.Order{CA: "https://ca.example/dir", URL: "https://ca.example/order"}); err != nil {
		return nil, err
	}
	<-ctx.Done()
	s.ended <- time.Now()
	return nil, &acme.Error{Kind: acme.Temporary, Op: "wait", Detail: "stopped", Err: ctx.Err()}
}

func (slow) GenerateKey(_ context.Context, _ string, t cert.KeyType) (crypto.Signer, error) {
	return cert.GenerateKey(t)
}

func (slow) HasCA(ca string) bool { return ca == "https://ca.example/dir" }

// inBubble runs f with a store, a row that is due and a loop over a slow CA,
// all in synctest's time.
func inBubble(t *testing.T, f func(t *testing.T, s *store.Store, m managed.Certificate, ca slow, stop func())) {
	synctest.Test(t, func(t *testing.T) {
		s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "db")})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		m, _, err := s.EnsureManaged(t.Context(), managed.Certificate{Mode: "test", Names: []string{"a.example"}, KeyType: "ec256"})
		if err != nil {
			t.Fatal(err)
		}
		id, err := seal.GenerateIdentity()
		if err != nil {
			t.Fatal(err)
		}
		ca := slow{make(chan time.Time, 1)}
		q := renewal.NewQueue(renewal.Config{
			Store: s, Issuer: ca, DirectoryURL: "https://ca.example/dir", Identity: id, Owner: "me",
			Logger: slog.New(slog.DiscardHandler), Now: time.Now,
			Modes: map[clients.Mode]renewal.Mode{"test": mode{to: id.Recipient()}},
		})
		l := work.NewLoop(q, 1, time.Now, slog.New(slog.DiscardHandler))
		stop := watch.Run(t, l.Run)
		f(t, s, m, ca, stop)
	})
}

func claim(t *testing.T, s *store.Store) []managed.Certificate {
	t.Helper()
	rows, err := s.ClaimDue(t.Context(), "other", time.Minute, 10)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// A row stays leased while work on it continues. A shutdown releases it at once,
// without a failure.
func TestLeaseIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store.Store, m managed.Certificate, ca slow, stop func()) {
		for range 10 {
			time.Sleep(time.Minute)
			if rows := claim(t, s); len(rows) != 0 {
				t.Fatal("another instance took the row")
			}
		}
		stop()
		<-ca.ended
		rows := claim(t, s)
		if len(rows) != 1 || rows[0].Failures != 0 || rows[0].LastError != "" {
			t.Errorf("after the stop: %+v", rows)
		}
		if _, err := s.OrderFor(t.Context(), m.ID); err != nil {
			t.Errorf("the journal: %v", err)
		}
	})
}

// Losing the lease ends the work soon and does not change the row.
func TestLostLeaseEndsWork(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store.Store, m managed.Certificate, ca slow, stop func()) {
		time.Sleep(time.Minute + time.Second)
		if err := s.DeleteManaged(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
		lost := time.Now()
		if took := (<-ca.ended).Sub(lost); took > 31*time.Second {
			t.Errorf("the work went on for %s", took)
		}
		if _, err := s.ManagedByID(t.Context(), m.ID); !errors.Is(err, managed.ErrNotFound) {
			t.Errorf("the row is back: %v", err)
		}
		stop()
	})
}

// A row of a mode that this instance does not serve is a failure that says so.
func TestUnknownMode(t *testing.T) {
	s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m, _, err := s.EnsureManaged(t.Context(), managed.Certificate{Mode: "other", Names: []string{"a.example"}, KeyType: "ec256"})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	q := renewal.NewQueue(renewal.Config{Store: s, Owner: "me", Logger: log, Now: time.Now})
	if err := work.NewLoop(q, 1, time.Now, log).Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	row, err := s.ManagedByID(t.Context(), m.ID)
	if err != nil || row.Failures != 1 || row.LastError != `mode "other" is not served by this instance` {
		t.Errorf("%+v, %v", row, err)
	}
	if next, err := q.Next(t.Context()); err != nil || !next.Equal(row.DueAt) {
		t.Errorf("next %s, %v; want %s", next, err, row.DueAt)
	}
}
