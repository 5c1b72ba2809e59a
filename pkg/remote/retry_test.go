package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// failingProxy is a proxy whose attempts fail. Its state changes with each request for
// it.
type failingProxy struct {
	mu       sync.Mutex // guards the rest
	states   []api.Certificate
	renewals int
	refuse   bool
}

func (f *failingProxy) state() api.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.states[0]
	if len(f.states) > 1 {
		f.states = f.states[1:]
	}
	return m
}

func (f *failingProxy) serve(e *evil) {
	e.on("GET "+api.PathCertificates+"/{id}", func(w http.ResponseWriter, r *http.Request) { jsonAnswer(200, f.state())(w, r) })
	e.on("GET "+api.PathCertificates+"/{id}/bundle", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	e.on("POST "+api.PathCertificates+"/{id}/renew", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.renewals++
		refuse := f.refuse
		f.mu.Unlock()
		if refuse {
			jsonAnswer(429, api.Problem{Detail: "4 attempts were requested"})(w, r)
			return
		}
		jsonAnswer(200, f.state())(w, r)
	})
}

// failedAttempt is the state of a certificate after so many failures.
func failedAttempt(n int, attempting bool) api.Certificate {
	at := time.Date(2026, 3, 1, 0, n, 0, 0, time.UTC)
	next, left := at.Add(time.Hour), 3600
	if attempting {
		left = 0
	}
	return api.Certificate{
		ID: "1", Status: api.StatusFailing, Failures: n, LastError: fmt.Sprintf("failure %d", n), LastErrorAt: &at,
		NextAttempt: &next, RetryAfter: &left, Attempting: attempting,
	}
}

// A command reports the failure of the attempt that it requested. If it joined an
// attempt that began earlier, it requests another one (X44).
func TestPullReportsItsOwnAttempt(t *testing.T) {
	t.Parallel()
	due := failedAttempt(1, true)
	due.Attempting = false
	for name, tc := range map[string]struct {
		states   []api.Certificate
		renewals int
		refuse   bool
		want     string
	}{
		"requested":                {[]api.Certificate{failedAttempt(1, false), due, due, failedAttempt(1, true), failedAttempt(2, false)}, 1, false, ": failure 2; the proxy tries again at "},
		"it begins anyway":         {[]api.Certificate{due, failedAttempt(1, true), failedAttempt(2, false)}, 0, false, ": failure 2; "},
		"joined":                   {[]api.Certificate{failedAttempt(1, true), failedAttempt(2, false), failedAttempt(2, true), failedAttempt(3, false)}, 1, false, ": failure 3; "},
		"failed at once":           {[]api.Certificate{failedAttempt(1, false), due, failedAttempt(2, false)}, 1, false, ": failure 2; "},
		"refused":                  {[]api.Certificate{failedAttempt(1, false)}, 1, true, ": failure 1; 4 attempts were requested; the proxy tries again at "},
		"joined, and then refused": {[]api.Certificate{failedAttempt(1, true), failedAttempt(2, false)}, 1, true, ": failure 2; 4 attempts were requested; "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEvil(t)
			s := e.enrolled(t)
			f := &failingProxy{states: tc.states, refuse: tc.refuse}
			f.serve(e)
			k, err := s.loadKept(want(t, s, clients.ModeAgent))
			if err != nil {
				t.Fatal(err)
			}
			k.ID = "1"
			err = getter(t, s).pull(t.Context(), k, commandPull(false))
			if err == nil || !strings.Contains(err.Error(), tc.want) || f.renewals != tc.renewals {
				t.Errorf("%v after %d requests, want %q after %d", err, f.renewals, tc.want, tc.renewals)
			}
		})
	}
}

// newDaemon returns a daemon with one certificate.
func newDaemon(t *testing.T, s *State, mode clients.Mode) (*daemon, func() Kept) {
	t.Helper()
	d := &daemon{timing: defaultTiming(), RunConfig: RunConfig{State: s, Poll: time.Hour, Logger: slog.New(slog.DiscardHandler)}, getter: getter(t, s)}
	if err := s.remember(t.Context(), want(t, s, mode)); err != nil {
		t.Fatal(err)
	}
	return d, func() Kept {
		t.Helper()
		all, err := s.Kept()
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		return all[0]
	}
}

// A start of the daemon ends a delay in gateway mode, but a crash loop costs the CA
// three orders an hour. Tries do not delay the daemon's own next attempt (X44).
func TestStartsAreBounded(t *testing.T) {
	t.Parallel()
	e := newEvil(t)
	s := e.enrolled(t)
	orders := 0
	e.on("POST "+api.PathCertificates, func(w http.ResponseWriter, r *http.Request) {
		orders++
		jsonAnswer(422, api.Problem{Detail: "DNS"})(w, r)
	})
	d, kept := newDaemon(t, s, clients.ModeGateway)
	d.turn(t.Context(), kept(), true)
	first := kept()
	for range 9 {
		d.turn(t.Context(), kept(), true)
	}
	k := kept()
	if orders != 3 || k.Failures != 1 || !k.NextAttempt.After(time.Now()) || !k.NextAttempt.Equal(first.NextAttempt) {
		t.Errorf("%d orders, %+v, first %+v", orders, k, first)
	}
	for range 2 { // people have one more
		_, _, err := d.getter.Retry(t.Context(), k, false)
		if orders != 4 || err == nil {
			t.Errorf("%d orders, %v", orders, err)
		}
	}
	if k := kept(); k.Failures != 1 || !k.NextAttempt.Equal(first.NextAttempt) {
		t.Errorf("tries delay the daemon: %+v, first %+v", k, first)
	}
	_, _, err := d.getter.Retry(t.Context(), k, true)
	var early *managed.NotNow
	if !errors.As(err, &early) || early.Reason != managed.TriesUsed || !strings.Contains(err.Error(), "DNS; 4 attempts") {
		t.Errorf("the fifth: %v", err)
	}
}

// Attempts that succeeded do not count, and neither do those for other names. A refused
// attempt is stored and logged (X44).
func TestOnlyFailuresAreCounted(t *testing.T) {
	t.Parallel()
	s := newEvil(t).enrolled(t)
	d, kept := newDaemon(t, s, clients.ModeGateway)
	var log bytes.Buffer
	d.Logger = slog.New(slog.NewTextHandler(&log, nil))
	k := kept()
	for range 3 {
		k.Tries = append(k.Tries, time.Now().UTC())
	}
	if err := k.save(); err != nil {
		t.Fatal(err)
	}
	d.turn(t.Context(), kept(), true)
	const text = "attempts were requested within an hour and failed; the next attempt is possible at"
	if k := kept(); !strings.Contains(k.LastError, text) || !k.NextAttempt.After(time.Now()) || strings.Count(log.String(), text) != 1 {
		t.Errorf("%+v; log %s", k, &log)
	}
	k = kept()
	other := k.Wanted
	other.Names = cert.Names{"b.example"}
	k.change(other)
	if len(k.Tries) != 0 {
		t.Errorf("other names: %v", k.Tries)
	}
	k = kept()
	if err := d.getter.install(t.Context(), &k, issue{}.bundle(t), ""); err != nil {
		t.Fatal(err)
	}
	if k := kept(); len(k.Tries) != 0 || k.LastError != "" {
		t.Errorf("after a success: %+v", k)
	}
}

// A delay that the proxy or the CA asked for survives a start (X44).
func TestStartKeepsAskedWait(t *testing.T) {
	t.Parallel()
	e := newEvil(t)
	s := e.enrolled(t)
	orders := 0
	e.on("POST "+api.PathCertificates, func(w http.ResponseWriter, r *http.Request) {
		orders++
		w.Header().Set("Retry-After", "3600")
		jsonAnswer(429, api.Problem{Detail: "limit"})(w, r)
	})
	d, kept := newDaemon(t, s, clients.ModeGateway)
	for range 3 {
		d.turn(t.Context(), kept(), true)
	}
	if wait := time.Until(kept().WaitUntil); orders != 1 || wait < 59*time.Minute {
		t.Errorf("%d orders, wait %v", orders, wait)
	}
	if _, _, err := d.getter.Retry(t.Context(), kept(), false); orders != 1 || !errors.As(err, new(*managed.NotNow)) {
		t.Errorf("%d orders, %v", orders, err)
	}
}

// A start while the proxy is unreachable counts no attempt. The try is made when the
// proxy is back.
func TestStartWithoutProxy(t *testing.T) {
	t.Parallel()
	e := newEvil(t)
	s := e.enrolled(t)
	e.Close()
	d, kept := newDaemon(t, s, clients.ModeGateway)
	for range 5 {
		at := d.turn(t.Context(), kept(), true)
		if wait := time.Until(at); wait > time.Minute || !d.delays.takeTry(kept().path) || len(kept().Tries) != 0 {
			t.Errorf("next turn in %v, %+v", wait, kept())
		}
	}
}

// A hook that was fixed runs at the start, even if the proxy is unreachable (X44).
func TestHookAtStart(t *testing.T) {
	t.Parallel()
	e := newEvil(t)
	s := e.enrolled(t)
	e.serves(`"1"`, sealed(t, s, issue{}.bundle(t)))
	w := want(t, s, clients.ModeAgent)
	w.Hook = "test -e " + filepath.Join(s.Dir, "fixed") + " && " + w.Hook
	if _, err := getter(t, s).Get(t.Context(), w); err == nil {
		t.Fatal("the hook succeeded")
	}
	e.Close()
	d := &daemon{timing: defaultTiming(), RunConfig: RunConfig{State: s, Poll: time.Hour, Logger: slog.New(slog.DiscardHandler)}, getter: getter(t, s)}
	if err := os.WriteFile(filepath.Join(s.Dir, "fixed"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	listed, err := s.Kept()
	if err != nil {
		t.Fatal(err)
	}
	d.turn(t.Context(), listed[0], true)
	if ran := hooks(t, s); len(ran) != 1 {
		t.Errorf("the hook ran for %v", ran)
	}
}

// Whatever keeps the proxy from answering, the first retries come after seconds, in
// both modes (X44).
func TestFirstRetriesAreSoon(t *testing.T) {
	t.Parallel()
	const soon = 11 * time.Second
	problem := func(status int) error { return &api.Problem{Status: status, Detail: "x"} }
	for name, cause := range map[string]error{
		"refused":            &unreachableError{&net.OpError{Op: "dial", Err: errors.New("connection refused")}, false},
		"DNS":                &unreachableError{&net.DNSError{Err: "no such host", Name: "proxy.example"}, false},
		"timeout":            &unreachableError{os.ErrDeadlineExceeded, true},
		"TLS":                &unreachableError{errors.New("tls: handshake failure"), false},
		"another key":        ErrPin,
		"503":                problem(503),
		"502 of a balancer":  problem(502),
		"500":                problem(500),
		"the answer is cut":  fmt.Errorf("read the proxy's answer: %w", io.ErrUnexpectedEOF),
		"the stream is late": errors.New("the proxy sent nothing for 1m30s"),
	} {
		for _, mode := range []clients.Mode{clients.ModeAgent, clients.ModeGateway} {
			d := &daemon{timing: defaultTiming(), RunConfig: RunConfig{Poll: 15 * time.Minute}}
			k := &Kept{Wanted: Wanted{Mode: mode}, path: "k"}
			failure := cause
			if !mode.IsUnattended() {
				failure = asIssuerError("ask the proxy", cause)
			}
			limit := soon
			if mode.IsUnattended() && (name == "the answer is cut" || name == "the stream is late") {
				limit = time.Minute
			}
			if wait := time.Until(d.recordFailure(k, failure, false)); wait > limit {
				t.Errorf("%s in %s mode: the first retry after %v", name, mode, wait)
			}
		}
	}
	d := &daemon{timing: defaultTiming(), RunConfig: RunConfig{Poll: 15 * time.Minute}}
	k := &Kept{Wanted: Wanted{Mode: clients.ModeAgent}, path: "k"}
	for range 20 {
		if wait := time.Until(d.recordFailure(k, &acme.Error{Kind: acme.Permanent}, false)); wait > 16*time.Minute {
			t.Errorf("an agent waits %v, longer than its poll interval", wait)
		}
	}
}

// A renewal by a person first installs what the proxy has already: the certificate on
// the disk may have been revoked there. A refused renewal of a good certificate is no
// problem of that certificate (X44).
func TestRenewTakesNewerFirst(t *testing.T) {
	t.Parallel()
	old, newer := issue{notBefore: -2 * time.Hour}, issue{notBefore: -time.Hour}
	for name, tc := range map[string]struct {
		present   issue
		get       bool // get --renew, which wants a new key in any case
		revoked   bool // by this host, and not replaced yet
		renewals  int
		installed bool
		refused   bool
	}{
		"newer":                    {present: newer, installed: true},
		"newer, this one revoked":  {present: newer, revoked: true, installed: true},
		"older":                    {present: issue{notBefore: -3 * time.Hour}, renewals: 1, refused: true},
		"due":                      {present: issue{notBefore: -time.Hour, length: time.Hour + time.Minute}, renewals: 1, installed: true, refused: true},
		"get --renew, and refused": {present: newer, get: true, renewals: 1, installed: true, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEvil(t)
			s := e.enrolled(t)
			first, second := old.bundle(t), tc.present.bundle(t)
			e.serves(`"1"`, sealed(t, s, first))
			w := want(t, s, clients.ModeAgent)
			k, err := getter(t, s).Get(t.Context(), w)
			if err != nil {
				t.Fatal(err)
			}
			if tc.revoked {
				k.Revoked = first.Serial()
				if err := k.save(); err != nil {
					t.Fatal(err)
				}
			}
			e.serves(`"2"`, sealed(t, s, second))
			var renewals atomic.Int32
			e.on("POST "+api.PathCertificates+"/id/renew", func(w http.ResponseWriter, r *http.Request) {
				renewals.Add(1)
				jsonAnswer(429, api.Problem{Status: 429, Detail: "a short while ago"})(w, r)
			})
			e.on("GET "+api.PathCertificates+"/id", jsonAnswer(200, api.Certificate{ID: "id", Status: api.StatusValid}))
			if tc.get {
				_, err = getter(t, s).Renew(t.Context(), w)
			} else {
				_, _, err = getter(t, s).Retry(t.Context(), *k, true)
			}
			now, readErr := certfile.Read(w.Out)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if (err != nil) != tc.refused || int(renewals.Load()) != tc.renewals || (now.Serial() == second.Serial()) != tc.installed {
				t.Errorf("%v after %d requests, installed %v", err, renewals.Load(), now.Serial() == second.Serial())
			}
			if kept, err := readKept(k.path); err != nil || kept.LastError != "" {
				t.Errorf("%v; problem %q", err, kept.LastError)
			}
		})
	}
}
