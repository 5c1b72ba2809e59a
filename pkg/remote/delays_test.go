package remote

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// Times that an attempt under a wrong clock stored count for nothing: the next
// attempt, a pending revocation and the wish for another bundle (X45).
func TestWrongClock(t *testing.T) {
	s := &State{Dir: t.TempDir()}
	const day = 24 * time.Hour
	for _, c := range []struct {
		ahead time.Duration
		kept  bool
	}{{12 * 365 * day, false}, {9 * day, false}, {-12 * 365 * day, true}, {7 * day, true}, {time.Hour, true}} {
		at := time.Now().Add(c.ahead).UTC().Truncate(time.Second)
		k := &Kept{Wanted: want(t, s, clients.ModeGateway), NextAttempt: at, AskAgain: at, NotAfter: time.Now().Add(90 * day), Revoking: &revoking{Serial: "1"}}
		k.path = s.keptPath(k.Mode, k.Names)
		if err := k.save(); err != nil {
			t.Fatal(err)
		}
		got, err := readKept(k.path)
		if err != nil {
			t.Fatal(err)
		}
		if got.NextAttempt.Equal(at) != c.kept || got.AskAgain.Equal(at) != c.kept || got.Revoking == nil {
			t.Errorf("%v ahead: %+v", c.ahead, got)
		}
		if !c.kept && (!got.NextAttempt.IsZero() || !got.AskAgain.IsZero()) {
			t.Errorf("%v ahead: it waits until %v", c.ahead, got.NextAttempt)
		}
	}
}

// That the proxy cannot be reached is no failure of the CA. The first answer of
// the proxy ends the delays of all that could not reach it.
func TestProxyIsBack(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	addr := e.Listener.Addr().String()
	e.Close()
	d := &daemon{timing: defaultTiming(), RunConfig: RunConfig{State: s, Poll: time.Hour, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}}
	d.delays.wake = make(chan struct{}, 1)
	var err error
	if d.getter, err = s.Getter(nil); err != nil {
		t.Fatal(err)
	}
	d.getter.api.answered = func() { d.delays.notify(answered) }
	names := []string{"early.example", "late-agent.example", "late-gateway.example"}
	for i, name := range names {
		w := Wanted{Names: cert.Names{name}, Mode: clients.ModeAgent, KeyType: cert.EC256, Out: filepath.Join(t.TempDir(), "out")}
		if i == 2 {
			w.Mode = clients.ModeGateway
		}
		if err := s.remember(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		for range 10 * min(i, 1) { // an hour of attempts
			d.delays.recordMiss(s.keptPath(w.Mode, w.Names), time.Hour)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); d.run(ctx) }()
	defer func() { stop(); <-done }()
	kept := func() []Kept {
		all, err := s.Kept()
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	watch.Until(t, "all have tried", func() bool {
		for _, k := range kept() {
			if !strings.Contains(k.LastError, "cannot reach the proxy") {
				return false
			}
		}
		return true
	})
	for _, k := range kept() {
		if k.Failures != 0 || !k.NextAttempt.IsZero() {
			t.Errorf("%s: %d failures, next attempt %v", k.Names, k.Failures, k.NextAttempt)
		}
	}

	var mu sync.Mutex
	requests := 0
	back := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		requests++
		mu.Unlock()
		w.WriteHeader(http.StatusForbidden)
	}))
	back.Listener.Close()
	if back.Listener, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr); err != nil {
		t.Fatal(err)
	}
	back.TLS = e.TLS
	back.StartTLS()
	defer back.Close()
	began := time.Now()
	watch.Until(t, "all have asked", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return requests >= len(names)
	})
	t.Logf("two certificates whose next attempt was in an hour were asked for after %v", time.Since(began).Round(time.Millisecond))
}

// A success in gateway mode ends the delays of those that failed with the CA for
// a temporary reason, once, and not of others.
func TestCAIsBack(t *testing.T) {
	d := &daemon{timing: defaultTiming(), RunConfig: RunConfig{Poll: time.Hour}}
	kept := func(name string) *Kept {
		return &Kept{Wanted: Wanted{Mode: clients.ModeGateway, Names: cert.Names{name}}, path: name}
	}
	temporary := &acme.Error{Kind: acme.Temporary, Detail: "503"}
	told := &acme.Error{Kind: acme.Temporary, RetryAt: time.Now().Add(time.Hour)}
	waits, asked, wrong, reset := kept("waits"), kept("asked"), kept("wrong"), kept("reset")
	for range 10 {
		d.recordFailure(waits, temporary, false)
	}
	d.recordFailure(asked, told, false)
	d.recordFailure(wrong, &acme.Error{Kind: acme.Permanent}, false)
	d.recordFailure(reset, asIssuerError("", &unreachableError{errors.New("reset"), true}), false) // an order may exist
	if wait := time.Until(waits.NextAttempt); wait < 50*time.Minute || reset.Failures != 1 {
		t.Errorf("wait %v; %+v", wait, reset)
	}
	if got := d.delays.takeEnded(); len(got) > 0 {
		t.Errorf("released %v before any success", got)
	}
	d.delays.notify(answered)
	d.delays.notify(obtained)
	got := d.delays.takeEnded()
	if len(got) != 2 || !d.delays.takeEased("waits") || d.delays.takeEased("asked") || d.delays.takeEased("wrong") || !d.delays.takeEased("reset") {
		t.Errorf("released %v", got)
	}
	d.recordFailure(waits, temporary, true) // the cause is its own
	d.delays.notify(obtained)
	if got := d.delays.takeEnded(); len(got) > 0 || waits.Transient {
		t.Errorf("released %v again", got)
	}
}

// While the proxy is unreachable, one certificate tries at least every minute.
func TestProbe(t *testing.T) {
	var d delays
	most := func(path string) (longest time.Duration) {
		for range 10 {
			longest = max(longest, d.recordMiss(path, time.Hour))
		}
		return longest
	}
	if a, b := most("a"), most("b"); a > time.Minute || b < 15*time.Minute {
		t.Errorf("the first waits %v, the second %v", a, b)
	}
	d.clear("a") // it was forgotten, for instance
	if b := most("b"); b < 54*time.Second || b > time.Minute {
		t.Errorf("the second waits %v now", b)
	}
}

// The delays of an unreachable proxy begin with seconds.
func TestMissedDelays(t *testing.T) {
	var d delays
	for _, want := range []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 20 * time.Second, 20 * time.Second} {
		if got := d.recordMiss("k", 20*time.Second); got > want || got < want-want/10 {
			t.Errorf("delay %v, want %v", got, want)
		}
	}
	d.clear("k")
	if got := d.recordMiss("k", time.Hour); got > 2*time.Second {
		t.Errorf("delay %v after a success", got)
	}
}
