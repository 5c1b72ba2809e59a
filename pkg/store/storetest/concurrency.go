package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

const workers = 8

var concurrencyCases = []testCase{
	{"every due row is claimed exactly once", raceClaim},
	{"every hook is claimed exactly once", raceHooks},
	{"a name goes to one client", raceName},
	{"overlapping name sets do not lock each other out", raceOverlap},
	{"a quota is not exceeded", raceQuota},
	{"a secret enrols one key", raceEnroll},
	{"one account and one secret win", raceFirstWriter},
	{"one request creates a managed certificate", raceEnsure},
	{"audit ids are unique and without gaps", raceAudit},
	{"a removed client leaves nothing behind", raceRemove},
}

func raceClaim(t *testing.T, f *fixture) { claimAll(t, []*store.Store{f.Store}, f.manage) }

// claimAll lets the workers, spread over the stores, claim and complete every
// row, and checks that each was worked on once.
func claimAll(t *testing.T, stores []*store.Store, manage func(t *testing.T, names ...string) managed.Certificate) {
	ctx := t.Context()
	const rows = 200
	for i := range rows {
		manage(t, fmt.Sprintf("n%d.example", i))
	}
	var mu sync.Mutex
	claims := map[string]int{} // guarded by mu
	each(func(i int) {
		s, owner := stores[i%len(stores)], fmt.Sprintf("w%d", i)
		for range rows { // more would be a row claimed twice
			got, err := s.ClaimDue(ctx, owner, time.Hour, 7)
			if err != nil {
				t.Error(err)
				return
			}
			if len(got) == 0 {
				return
			}
			for _, m := range got {
				mu.Lock()
				claims[m.ID]++
				mu.Unlock()
				if err := s.CompleteManaged(ctx, owner, managed.Bundle{ManagedID: m.ID, ETag: owner}, time.Time{}, false); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for id, n := range claims {
		if n != 1 {
			t.Errorf("%s was claimed %d times", id, n)
		}
	}
	equal(t, len(claims), rows)
}

func raceHooks(t *testing.T, f *fixture) {
	ctx := t.Context()
	const rows = 50
	for i := range rows {
		ok(t, f.RequireHook(ctx, f.manage(t, fmt.Sprintf("n%d.example", i)).ID, "e"))
	}
	var total atomic.Int64
	each(func(i int) {
		for range rows {
			got, err := f.ClaimHooks(ctx, fmt.Sprintf("w%d", i), time.Hour, 3)
			if err != nil {
				t.Error(err)
			}
			if len(got) == 0 {
				return
			}
			for _, h := range got {
				total.Add(1)
				if err := f.CompleteHook(ctx, h.ManagedID, h.LeaseOwner, h.ETag); err != nil {
					t.Error(err)
				}
			}
		}
	})
	equal(t, total.Load(), int64(rows))
}

func raceName(t *testing.T, f *fixture) { // A24
	ctx := t.Context()
	for round := range 5 {
		var owners [workers]string
		for i := range owners {
			owners[i] = f.client(t, fmt.Sprintf("c%d-%d", round, i)).ID
		}
		name := fmt.Sprintf("wanted%d.example", round)
		var won atomic.Int64
		each(func(i int) {
			_, _, err := f.EnsureManaged(ctx, managed.Certificate{ClientID: owners[i], Names: []string{name, fmt.Sprintf("own%d-%d.example", round, i)}})
			switch {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, managed.ErrOwned):
				t.Error(err)
			}
		})
		equal(t, won.Load(), int64(1))
	}
}

func raceOverlap(t *testing.T, f *fixture) {
	ctx := t.Context()
	names := []string{"a.example", "b.example", "c.example", "d.example"}
	each(func(i int) {
		for j := range names {
			set := []string{names[(i+j)%4], names[(i+j+2)%4], fmt.Sprintf("w%d.example", i)}
			m, _, err := f.EnsureManaged(ctx, managed.Certificate{Names: set})
			if err != nil {
				t.Error(err)
				continue
			}
			// The same set in another order is the same row.
			if err := f.DeleteManaged(ctx, m.ID); err != nil {
				t.Error(err)
			}
		}
	})
	// All names are free again.
	c := f.client(t, "c")
	must2(f.EnsureManaged(ctx, managed.Certificate{ClientID: c.ID, Names: names}))(t)
}

func raceQuota(t *testing.T, f *fixture) { // X20
	ctx := t.Context()
	c := f.client(t, "c")
	var taken atomic.Int64
	each(func(int) {
		for range 5 {
			got, err := f.TakeQuota(ctx, c.ID, f.clock.Now(), 17)
			if err != nil {
				t.Error(err)
			}
			if got {
				taken.Add(1)
			}
		}
	})
	equal(t, taken.Load(), int64(17))
}

func raceEnroll(t *testing.T, f *fixture) {
	ctx := t.Context()
	c := f.withSecret(t, "web1", "secret")
	var won atomic.Int64
	each(func(i int) {
		_, err := f.Enroll(ctx, hash("secret"), key(fmt.Sprint(i)), []string{fmt.Sprintf("age1r%d", i)})
		switch {
		case err == nil:
			won.Add(1)
		case !errors.Is(err, managed.ErrNotFound):
			t.Error(err)
		}
	})
	equal(t, won.Load(), int64(1))
	equal(t, len(must(f.Credentials(ctx, c.ID))(t)), 1)
	equal(t, len(must(f.ClientByID(ctx, c.ID))(t).Recipients), 2)
}

func raceFirstWriter(t *testing.T, f *fixture) {
	ctx := t.Context()
	var accounts, secrets [workers]string
	each(func(i int) {
		own := []byte(fmt.Sprint(i))
		a, err1 := f.CreateAccount(ctx, acme.Account{DirectoryURL: directory, SealedKey: own})
		b, err2 := f.CreateSecret(ctx, "api-key", own)
		if err := errors.Join(err1, err2); err != nil {
			t.Error(err)
		}
		accounts[i], secrets[i] = string(a.SealedKey), string(b)
	})
	for i := range workers {
		equal(t, accounts[i], accounts[0])
		equal(t, secrets[i], secrets[0])
	}
}

func raceEnsure(t *testing.T, f *fixture) { // A25
	var made atomic.Int64
	each(func(int) {
		_, created, err := f.EnsureManaged(t.Context(), managed.Certificate{Mode: "acme-client", Names: []string{"a.example", "b.example"}})
		if err != nil {
			t.Error(err)
		}
		if created {
			made.Add(1)
		}
	})
	equal(t, made.Load(), int64(1))
	equal(t, len(f.claim(t, "w")), 1)
}

func raceAudit(t *testing.T, f *fixture) {
	ctx := t.Context()
	each(func(int) {
		for range 10 {
			if err := f.AppendAudit(ctx, trail.Entry{Outcome: "done"}); err != nil {
				t.Error(err)
			}
		}
	})
	got := must(f.Audit(ctx, trail.Query{Limit: 1000}))(t)
	equal(t, len(got), 10*workers)
	for i, e := range got {
		equal(t, e.ID, got[0].ID-int64(i))
	}
}

func raceRemove(t *testing.T, f *fixture) {
	ctx := t.Context()
	for round := range 5 {
		c := f.client(t, fmt.Sprintf("c%d", round))
		each(func(i int) {
			if i == 0 {
				if err := f.RemoveClient(ctx, c.ID); err != nil {
					t.Error(err)
				}
				return
			}
			_, _, err := f.EnsureManaged(ctx, managed.Certificate{ClientID: c.ID, Names: []string{fmt.Sprintf("n%d.example", i)}})
			if err != nil && !errors.Is(err, managed.ErrNotFound) {
				t.Error(err)
			}
		})
		equal(t, len(must(f.ListManaged(ctx, c.ID, "", "", 0))(t)), 0)
		equal(t, len(f.claim(t, "w")), 0)
	}
}
