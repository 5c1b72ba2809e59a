package tunnel_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/tunnel"
)

const (
	name  = "app.example.com"
	token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
)

var (
	thumbprint = strings.Repeat("x", 43)
	stranger   = netip.MustParseAddr("192.0.2.1")
)

func open(t *testing.T, h *tunnel.Hub, client string, names ...string) *tunnel.Stream {
	t.Helper()
	s, err := h.Open(client, names)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// ask asks in the background. The function returns the answer.
func ask(t *testing.T, h *tunnel.Hub, name, token string) func() string {
	t.Helper()
	var answer string
	done := make(chan struct{})
	go func() {
		defer close(done)
		answer, _ = h.Ask(t.Context(), stranger, name, token)
	}()
	return func() string { <-done; return answer }
}

// Everybody who asks for a token gets the answer of the host, which gets one question (X27).
func TestAsk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := tunnel.New(tunnel.Config{})
		s := open(t, h, "web", name)
		first, second := ask(t, h, name, token), ask(t, h, name, token)
		synctest.Wait()
		q := <-s.Questions()
		if q.Name != name || q.Token != token || len(s.Questions()) != 0 {
			t.Errorf("%+v, and %d more", q, len(s.Questions()))
		}
		if err := h.Answer("web", q.ID, token+"."+thumbprint); err != nil {
			t.Error(err)
		}
		if a, b := first(), second(); a != token+"."+thumbprint || b != a {
			t.Errorf("%q, %q", a, b)
		}
		if err := h.Answer("web", q.ID, ""); !errors.Is(err, tunnel.ErrUnknown) {
			t.Errorf("a second answer: %v", err)
		}
	})
}

// The first host that has an answer gives it. A host without one, one that leaves and
// one that is silent do not hinder it.
func TestHosts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := tunnel.New(tunnel.Config{})
		without, leaves, silent, has := open(t, h, "a", name), open(t, h, "a", name), open(t, h, "b", name), open(t, h, "c", "other.example.com", name)
		answer := ask(t, h, name, token)
		synctest.Wait()
		if err := h.Answer("a", (<-without.Questions()).ID, ""); err != nil {
			t.Error(err)
		}
		leaves.Close()
		leaves.Close()
		<-silent.Questions()
		if err := h.Answer("c", (<-has.Questions()).ID, token+"."+thumbprint); err != nil {
			t.Error(err)
		}
		if got := answer(); got == "" {
			t.Error("no answer")
		}
	})
}

// No answer comes without a host, from a host that does not answer, after it has left,
// or if it is not the key authorization of the token.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := tunnel.New(tunnel.Config{})
		for what, q := range map[string][2]string{
			"another name": {"www.example.com", token}, "no token": {name, ""}, "a path": {name, "../" + token},
			"a long token": {name, strings.Repeat("a", 256)},
		} {
			s := open(t, h, "web", name)
			if answer := ask(t, h, q[0], q[1])(); answer != "" || len(s.Questions()) != 0 {
				t.Errorf("%s: %q, %d questions", what, answer, len(s.Questions()))
			}
			s.Close()
		}
		for _, bad := range []string{"x", token, token + ".", token + "." + thumbprint + "x", token + "." + thumbprint + "\n", "<html>", token + "." + strings.Repeat("/", 43)} {
			s := open(t, h, "web", name)
			answer := ask(t, h, name, token)
			if err := h.Answer("web", (<-s.Questions()).ID, bad); !errors.Is(err, tunnel.ErrNotAnswer) {
				t.Errorf("%q: %v", bad, err)
			}
			if got := answer(); got != "" {
				t.Errorf("%q: %q", bad, got)
			}
			s.Close()
		}
		s := open(t, h, "web", name)
		answer, begin := ask(t, h, name, token), time.Now()
		q := <-s.Questions()
		if err := h.Answer("other", q.ID, token+"."+thumbprint); !errors.Is(err, tunnel.ErrUnknown) {
			t.Errorf("another client answers: %v", err)
		}
		if got := answer(); got != "" || time.Since(begin) != tunnel.MaxWait {
			t.Errorf("a silent host: %q after %s", got, time.Since(begin))
		}
		synctest.Wait()
		if err := h.Answer("web", q.ID, token+"."+thumbprint); !errors.Is(err, tunnel.ErrUnknown) {
			t.Errorf("too late: %v", err)
		}
		answer = ask(t, h, name, token)
		synctest.Wait()
		s.Close()
		if got := answer(); got != "" {
			t.Errorf("a host that left: %q", got)
		}
	})
}

// What waits is limited: for each client, each host and each address that asks.
func TestLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := tunnel.New(tunnel.Config{Places: 200})
		s := open(t, h, "web", name)
		for range tunnel.MaxStreams - 1 {
			open(t, h, "web", "idle.example.com")
		}
		if _, err := h.Open("web", []string{name}); !errors.Is(err, tunnel.ErrStreams) {
			t.Errorf("one stream more: %v", err)
		}
		open(t, h, "other", name).Close()
		var waiting sync.WaitGroup
		for i := range 150 {
			waiting.Go(func() { h.Ask(t.Context(), stranger, name, token[i%20:]+strings.Repeat("a", i/20)) })
		}
		synctest.Wait()
		if n := len(s.Questions()); n != 64 {
			t.Errorf("%d questions wait", n)
		}
		begin := time.Now()
		if _, ok := h.Ask(t.Context(), stranger, name, "more"); ok || time.Since(begin) != 0 {
			t.Errorf("%t after %s", ok, time.Since(begin))
		}
		waiting.Wait()
		if time.Since(begin) != tunnel.MaxWait {
			t.Errorf("after %s", time.Since(begin))
		}
	})
}

// Other instances are asked if this one has no host with an answer. Their answers are
// checked, too. They are told which names have a stream.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	var told [][]string
	var h *tunnel.Hub
	answer := token + "." + thumbprint
	h = tunnel.New(tunnel.Config{
		Elsewhere: func(_ context.Context, asked, _ string) (string, bool) { return answer, asked == name },
		Changed:   func() { told = append(told, h.Names()) },
	})
	if got, ok := h.Ask(t.Context(), stranger, name, token); got != answer || !ok {
		t.Errorf("%q", got)
	}
	if got, ok := h.Ask(t.Context(), stranger, "www.example.com", token); ok {
		t.Errorf("%q", got)
	}
	answer = "evil"
	if got, ok := h.Ask(t.Context(), stranger, name, token); ok {
		t.Errorf("%q", got)
	}
	first, second := open(t, h, "web", name, "b.example.com"), open(t, h, "web", name)
	first.Close()
	second.Close()
	want := [][]string{{name, "b.example.com"}, {name}, nil}
	for i := range want {
		if len(told) != len(want) || strings.Join(told[i], " ") != strings.Join(want[i], " ") {
			t.Fatalf("told %v, want %v", told, want)
		}
	}
}
