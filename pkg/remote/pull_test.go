package remote

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// questions records how long the proxy may hold back each question for a bundle.
type questions struct {
	mu    sync.Mutex
	waits []string
}

func (q *questions) list() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.waits)
}

// comesAfter answers with a bundle from the question with that number on.
func (q *questions) comesAfter(n int, bundle []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q.mu.Lock()
		q.waits = append(q.waits, r.URL.Query().Get("wait"))
		asked := len(q.waits)
		q.mu.Unlock()
		if asked < n {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("ETag", `"1"`)
		_, _ = w.Write(bundle)
	}
}

// A command reports first and then waits for as long as it takes. The daemon waits
// once, asks once more, and leaves the rest to its next turn.
func TestPullOptions(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		opts      pullOptions
		comes     int // with which question
		waits     []string
		installed bool
	}{
		"a command":               {commandPull(false), 4, []string{"", "30s", "30s", "30s"}, true},
		"the daemon":              {daemonPull(), 1, []string{"30s"}, true},
		"the daemon, asked twice": {daemonPull(), 2, []string{"30s", ""}, true},
		"the daemon's turn ends":  {daemonPull(), 4, []string{"30s", ""}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEvil(t)
			s := e.enrolled(t)
			var q questions
			e.on("POST "+api.PathCertificates, jsonAnswer(202, api.Certificate{ID: "1", Status: api.StatusPending}))
			e.on("GET "+api.PathCertificates+"/{id}", jsonAnswer(200, api.Certificate{ID: "1", Status: api.StatusPending}))
			e.on("GET "+api.PathCertificates+"/{id}/bundle", q.comesAfter(tc.comes, sealed(t, s, issue{}.bundle(t))))
			var stages []acme.Stage
			g, err := s.Getter(func(e acme.Event) { stages = append(stages, e.Stage) })
			if err != nil {
				t.Fatal(err)
			}
			k, err := s.loadKept(want(t, s, clients.ModeAgent))
			if err != nil {
				t.Fatal(err)
			}
			if err := g.pull(t.Context(), k, tc.opts); err != nil {
				t.Fatal(err)
			}
			if got := q.list(); !slices.Equal(got, tc.waits) || (k.ETag != "") != tc.installed {
				t.Errorf("waits %q, ETag %q", got, k.ETag)
			}
			if stages[0] != Registered || len(tc.waits) > 1 && stages[1] != Waiting {
				t.Errorf("stages %q", stages)
			}
		})
	}
}

// A proxy that will begin much later does not make a command wait, but the daemon;
// one that failed is an error for both, unless it tries again right now.
func TestPullComesLater(t *testing.T) {
	t.Parallel()
	at := time.Now().Add(time.Hour).UTC()
	for name, tc := range map[string]struct {
		opts   pullOptions
		answer api.Certificate
		want   string // of the error; empty: none
	}{
		"later, command": {commandPull(false), api.Certificate{Status: api.StatusPending, NextAttempt: &at}, "it asks the CA at "},
		"later, daemon":  {daemonPull(), api.Certificate{Status: api.StatusPending, NextAttempt: &at}, "it asks the CA at "},
		"later, daemon with another one": {
			daemonPull(), api.Certificate{Status: api.StatusValid, Serial: "01", NextAttempt: &at}, "",
		},
		"failed, command":           {commandPull(false), api.Certificate{Status: api.StatusPending, Failures: 1, LastError: "x", NextAttempt: &at}, "the proxy has no certificate yet: x; tries used up; the proxy tries again at "},
		"failed, daemon":            {daemonPull(), api.Certificate{Status: api.StatusPending, Failures: 1, LastError: "x", NextAttempt: &at}, "the proxy has no certificate yet: x"},
		"failed, restarted":         {firstPull(), api.Certificate{Status: api.StatusFailing, Serial: "01", Failures: 1, LastError: "x", NextAttempt: &at}, "the proxy has no newer certificate yet: x; tries used up"},
		"failed, and it tries, now": {daemonPull(), api.Certificate{Status: api.StatusPending, Failures: 1, LastError: "x"}, "the proxy has no certificate yet: x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEvil(t)
			s := e.enrolled(t)
			tc.answer.ID = "1"
			if tc.answer.NextAttempt != nil {
				hour := 3600
				tc.answer.RetryAfter = &hour
			}
			var q questions
			e.on("GET "+api.PathCertificates+"/{id}", jsonAnswer(200, tc.answer))
			e.on("GET "+api.PathCertificates+"/{id}/bundle", q.comesAfter(1000, nil))
			e.on("POST "+api.PathCertificates+"/{id}/renew", jsonAnswer(429, api.Problem{Detail: "tries used up"}))
			k, err := s.loadKept(want(t, s, clients.ModeAgent))
			if err != nil {
				t.Fatal(err)
			}
			k.ID = "1"
			err = getter(t, s).pull(t.Context(), k, tc.opts)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// A certificate that the proxy forgot is registered again.
func TestPullRegistersAgain(t *testing.T) {
	t.Parallel()
	e := newEvil(t)
	s := e.enrolled(t)
	bundle := sealed(t, s, issue{}.bundle(t))
	var registered sync.Once
	known := make(chan struct{})
	e.on("POST "+api.PathCertificates, func(w http.ResponseWriter, r *http.Request) {
		registered.Do(func() { close(known) })
		jsonAnswer(202, api.Certificate{ID: "2", Status: api.StatusPending})(w, r)
	})
	e.on("GET "+api.PathCertificates+"/2/bundle", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"1"`)
		_, _ = w.Write(bundle)
	})
	k, err := s.loadKept(want(t, s, clients.ModeAgent))
	if err != nil {
		t.Fatal(err)
	}
	k.ID = "1"
	if err := getter(t, s).pull(t.Context(), k, daemonPull()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-known:
	default:
		t.Error("not registered again")
	}
	if k.ID != "2" || k.ETag != "1" {
		t.Errorf("id %q, ETag %q", k.ID, k.ETag)
	}
}

// The pause between two questions ends with the context.
func TestPullStops(t *testing.T) {
	t.Parallel()
	e := newEvil(t)
	s := e.enrolled(t)
	s.Timing.BetweenPolls = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	e.on("POST "+api.PathCertificates, jsonAnswer(202, api.Certificate{ID: "1"}))
	e.on("GET "+api.PathCertificates+"/{id}", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(api.Certificate{ID: "1"})
	})
	g, err := s.Getter(func(e acme.Event) {
		if e.Stage == Waiting {
			cancel()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Get(ctx, want(t, s, clients.ModeAgent)); err == nil || ctx.Err() == nil {
		t.Errorf("%v", err)
	}
}

// A field of Timing that is 0 has its default.
func TestTimingDefaults(t *testing.T) {
	t.Parallel()
	want := defaultTiming()
	want.Call = time.Second
	if got := (Timing{Call: time.Second}).withDefaults(); got != want {
		t.Errorf("%+v", got)
	}
	for i, d := range []time.Duration{want.Ping, want.Stream, want.StreamSilence, want.LongPoll, want.BetweenPolls, want.NotSoon, want.ReplaceSoon, want.Busy, want.Hook, want.FirstPoll, want.ShortestPoll} {
		if d <= 0 {
			t.Errorf("default %d is missing", i)
		}
	}
}
