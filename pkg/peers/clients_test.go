package peers

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
)

// clientAnswers records which answers of clients an instance serves.
type clientAnswers struct {
	mu      sync.Mutex
	served  map[string]challenge.ClientAnswer // by token
	ends    map[string]func()
	changes int
	refuse  bool
}

func (c *clientAnswers) Serve(a challenge.ClientAnswer, end func()) (remove func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse {
		return nil
	}
	c.served[a.Token], c.ends[a.Token] = a, end
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.served, a.Token)
	}
}

func (c *clientAnswers) Changed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
}

func (c *clientAnswers) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.served)
}

func newClientPeers(t *testing.T) (*Peers, *clientAnswers) {
	p := newPeers(t)
	served := &clientAnswers{served: map[string]challenge.ClientAnswer{}, ends: map[string]func(){}}
	p.cfg.Clients = served
	return p, served
}

func ofClient(n int, until time.Time) challenge.ClientAnswer {
	token := fmt.Sprintf("token-%016d", n)
	return challenge.ClientAnswer{
		ClientID: "c1", CredentialID: "k1", Addr: netip.MustParseAddr("192.0.2.1"), Name: "a.example.com", Token: token,
		KeyAuthorization: token + ".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI", Until: until.Truncate(time.Millisecond),
	}
}

func putClient(id string, a challenge.ClientAnswer) item {
	wire := clientWire(a)
	return item{Do: put, ID: id, Answer: &wire}
}

// sent returns the items in the outbox, and empties it.
func sent(t *testing.T, p *Peers) (all []item) {
	t.Helper()
	for raw := p.out.take(); len(raw) > 0; raw = p.out.take() {
		for _, r := range raw {
			var it item
			if err := parseStrictly(r, &it); err != nil {
				t.Fatal(err)
			}
			all = append(all, it)
		}
	}
	return all
}

// An answer of a client at another instance is served with all its fields, until that
// instance or the client ends it, or it expires. It outlives the instance (X2, X18).
func TestClientAnswers(t *testing.T) {
	t.Parallel()
	p, served := newClientPeers(t)
	until := time.Now().Add(time.Minute)
	for n := range 5 {
		said(t, p, "other", time.Now(), putClient(fmt.Sprint(n), ofClient(n, until)))
	}
	said(t, p, "other", time.Now(), putClient("0", ofClient(0, until)))
	want := ofClient(0, until)
	got := served.served[want.Token]
	if !got.Until.Equal(want.Until) {
		t.Errorf("until %v, want %v", got.Until, want.Until)
	}
	if got.Until = want.Until; got != want || served.len() != 5 {
		t.Errorf("%d served, %+v", served.len(), got)
	}
	acks := 0
	for _, it := range sent(t, p) {
		if it.Do == ack && it.To == "other" {
			acks++
		}
	}
	if acks != 6 {
		t.Errorf("%d acknowledged", acks)
	}
	said(t, p, "other", time.Now(), item{Do: remove, ID: "0"})
	said(t, p, "third", time.Now(), item{Do: remove, ID: "1"}, item{Do: end, ID: "1", To: "other"}, item{Do: end, ID: "9", To: "other"}, item{Do: changed})
	if served.len() != 3 || served.changes != 1 {
		t.Errorf("%d served, %d changes", served.len(), served.changes)
	}
	sent(t, p)
	served.ends[ofClient(2, until).Token]()
	if all := sent(t, p); !slices.Equal(all, []item{{Do: end, ID: "2", To: "other"}}) {
		t.Errorf("sent %+v", all)
	}
	said(t, p, "other", time.Now(), item{Do: bye})
	if served.len() != 3 {
		t.Errorf("%d served after the bye", served.len())
	}
	p.mu.Lock()
	p.dropExpired(until.Add(-time.Second))
	p.dropExpired(until.Add(time.Second))
	left := len(p.clients)
	p.mu.Unlock()
	if left != 0 || served.len() != 0 {
		t.Errorf("%d answers have not expired", left)
	}
}

// A client that withdraws its answer elsewhere ends it here. Only an answer of a client
// can be ended so (X2, X18).
func TestEndElsewhere(t *testing.T) {
	t.Parallel()
	p, _ := newClientPeers(t)
	ended := make(chan struct{})
	id, _ := p.addShared(clientWire(ofClient(1, time.Now())), nil, func() { close(ended) })
	own, _ := p.addShared(*answer("b.example.com", "t"), func() {}, nil)
	said(t, p, "other", time.Now(), item{Do: end, ID: own, To: "self"}, item{Do: end, ID: "unknown", To: "self"}, item{Do: end, ID: id, To: "self"})
	watch.Await(t, "it ends", ended)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.own[own] == nil {
		t.Error("the proxy's own answer was ended")
	}
}

// Answers of clients use limited memory, and none of that for the proxy's own answers. One
// that is not served is acknowledged, so that no instance waits.
func TestClientBounds(t *testing.T) {
	t.Parallel()
	p, served := newClientPeers(t)
	var all []item
	for n := range maxClients + 10 {
		all = append(all, putClient(fmt.Sprint(n), ofClient(n, time.Now().Add(time.Hour))))
	}
	p.mu.Lock()
	p.handle(time.Now(), "other", all)
	p.mu.Unlock()
	if len(p.clients) != maxClients || served.len() != maxClients || len(p.foreign) != 0 {
		t.Errorf("%d answers, %d served", len(p.clients), served.len())
	}
	said(t, p, "other", time.Now(), item{Do: put, ID: "own", Answer: answer("a.example.com", "t")})
	if len(p.foreign) != 1 {
		t.Error("no room for the proxy's own answer")
	}
	refusing, served := newClientPeers(t)
	served.refuse = true
	said(t, refusing, "other", time.Now(), putClient("1", ofClient(1, time.Now())))
	if !slices.ContainsFunc(sent(t, refusing), func(it item) bool { return it.Do == ack && it.ID == "1" }) {
		t.Error("not acknowledged")
	}
	said(t, refusing, "other", time.Now(), item{Do: remove, ID: "1"})
}
