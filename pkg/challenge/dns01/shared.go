package dns01

import (
	"slices"
	"sync"

	"github.com/go-acme/lego/v4/challenge/dns01"
	"github.com/go-acme/lego/v4/providers/dns/acmedns"

	"github.com/acmeproxy/acmeproxy/pkg/challenge"
)

// Shared holds what the solvers of one process share when settings change while
// records are published. The zero value is ready to use, concurrently.
type Shared struct {
	places challenge.Places
	serial sync.Mutex // held by each call of a provider with state in memory

	opening sync.Mutex
	acmedns *acmedns.DNSProvider // guarded by opening; nil until it is used
}

// acmeDNS returns the acme-dns provider. It reads the file of its accounts once and
// later writes the whole file, so a second provider could lose an account.
func (s *Shared) acmeDNS() (*acmedns.DNSProvider, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.acmedns != nil {
		return s.acmedns, nil
	}
	p, err := acmedns.NewDNSProvider()
	if err == nil {
		s.acmedns = p
	}
	return p, err
}

// resolvers guards lego's list of resolvers, which is one for the whole process and
// has no lock of its own.
var resolvers listTurns

// listTurns lets calls with the same list run concurrently, and makes those with
// another list wait. Calls with different lists are served in the order of arrival.
type listTurns struct {
	mu      sync.Mutex
	list    []string // lego's; guarded by mu
	set     bool     // whether list is lego's; guarded by mu
	users   int      // calls in flight; guarded by mu
	waiting []*listWaiter
}

type listWaiter struct {
	list  []string
	ready chan struct{} // closed when the call may run
}

// use makes list lego's until done. An empty list means that the system has none.
func (t *listTurns) use(list []string) (done func()) {
	t.mu.Lock()
	w := &listWaiter{list: list, ready: make(chan struct{})}
	t.waiting = append(t.waiting, w)
	t.admit()
	t.mu.Unlock()
	<-w.ready
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.users--
		t.admit()
	}
}

// admit starts the calls that may run. The caller holds mu.
func (t *listTurns) admit() {
	for len(t.waiting) > 0 {
		w := t.waiting[0]
		if !t.set || !slices.Equal(t.list, w.list) {
			if t.users > 0 {
				return
			}
			t.change(w.list)
		}
		t.waiting = t.waiting[1:]
		t.users++
		close(w.ready)
	}
}

// change sets lego's list. lego's own default stays until then. Without a list, it is
// the resolver of this host, as in the system's library. The caller holds mu.
func (t *listTurns) change(list []string) {
	servers := list
	if len(servers) == 0 {
		servers = []string{"127.0.0.1:53"}
	}
	if len(list) > 0 || t.set {
		_ = dns01.AddRecursiveNameservers(servers)(nil) // it returns no error
	}
	t.list, t.set = slices.Clone(list), true
}
