package dns01

import (
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// X19: before and after a reload, each call finds its own resolvers in lego's list,
// which has no lock. Calls with the same list run at the same time. Neither list can
// keep the other out for ever.
func TestResolversTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns listTurns
		a, b := []string{"192.0.2.1:53"}, []string{"192.0.2.2:53"}
		first, second := turns.use(a), turns.use(a)
		var order []string
		var mu sync.Mutex
		var calls sync.WaitGroup
		later := func(name string, list []string) {
			calls.Go(func() {
				done := turns.use(list)
				defer done()
				turns.mu.Lock()
				if !slices.Equal(turns.list, list) {
					t.Errorf("%s has the list %q", name, turns.list)
				}
				turns.mu.Unlock()
				mu.Lock()
				defer mu.Unlock()
				order = append(order, name)
			})
			synctest.Wait()
		}
		later("b", b)
		later("a", a) // behind b, although its list is in use
		later("none", nil)
		first()
		synctest.Wait()
		if len(order) != 0 {
			t.Errorf("%q did not wait", order)
		}
		second()
		calls.Wait()
		if !slices.Equal(order, []string{"b", "a", "none"}) {
			t.Errorf("order %q", order)
		}
		if turns.users != 0 || len(turns.waiting) != 0 {
			t.Errorf("%d users, %d waiting", turns.users, len(turns.waiting))
		}
	})
}

// X19: a reload keeps the acme-dns provider, whose accounts are in memory and in a file
// that it writes as a whole.
func TestOneACMEDNS(t *testing.T) {
	t.Setenv("ACME_DNS_API_BASE", "https://acme-dns.example.com")
	t.Setenv("ACME_DNS_STORAGE_PATH", filepath.Join(t.TempDir(), "accounts.json"))
	var shared Shared
	first, err := shared.acmeDNS()
	if err != nil {
		t.Fatal(err)
	}
	if second, err := shared.acmeDNS(); err != nil || first != second {
		t.Errorf("two providers: %p, %p, %v", first, second, err)
	}
}
