package remote

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// The reader of events ends for every input, and returns a last event or an error
// that can be shown.
func FuzzEvents(f *testing.F) {
	for _, seed := range []string{
		`{"event":"stage","stage":"ordering"}` + "\n" + `{"event":"certificate","chain":"x"}` + "\n",
		`{"event":"problem","problem":{"detail":"\u001b[31m","errors":[{"location":"a","message":"\r"}],"retry_after":-1}}`,
		`{"event":"problem"}`, `{"event":"waiting"}`, "\n", "", "{", `{"event":7}`, "null\n[]\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		last, err := readEvents(strings.NewReader(string(data)), func(e api.Event) {
			if e.Event == api.EventCertificate || e.Event == api.EventProblem {
				t.Errorf("a last event was shown on the way: %+v", e)
			}
		})
		var p *api.Problem
		switch {
		case err == nil && last.Event != api.EventCertificate:
			t.Errorf("%+v without an error", last)
		case errors.As(err, &p):
			if text := p.Error(); text != toPrintable(text) && len(text) < 2048 || p.RetryAfter < 0 {
				t.Errorf("problem %q", text)
			}
			var failed *acme.Error
			if !errors.As(asIssuerError("get", err), &failed) {
				t.Error("not an issuer's error")
			}
		}
	})
}

// What is read from the state directory is fit to work on, or an error.
func FuzzKept(f *testing.F) {
	for _, seed := range []string{
		`{"names":["a.example"],"mode":"agent","key_type":"ec256","out":"/out","etag":"e","not_after":"2026-01-01T00:00:00Z"}`,
		`{"names":["a.example"],"mode":"gateway","out":"out"}`, `{"names":null}`, `null`, `[]`, `{`, ``, `{"failures":1e400}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := parseKept(data, "")
		if err == nil && (len(k.Names) == 0 || !filepath.IsAbs(k.Out) || k.Mode != clients.ModeAgent && k.Mode != clients.ModeGateway) {
			t.Errorf("%+v", k)
		}
	})
}

// install leaves the hook due whenever it was killed, and so it is run again.
func TestKilledInInstall(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	w := want(t, s, clients.ModeAgent)
	first, second := issue{notBefore: -time.Hour}.bundle(t), issue{notBefore: -time.Minute}.bundle(t)
	e.serves(`"1"`, sealed(t, s, first))
	k, err := getter(t, s).Get(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	saved := *k
	for name, kill := range map[string]func(t *testing.T){
		"before the files": func(*testing.T) {},
		"after the files": func(t *testing.T) {
			if err := certfile.Write(t.Context(), k.Out, second); err != nil {
				t.Fatal(err)
			}
		},
		"before the hook": func(t *testing.T) {
			if err := certfile.Write(t.Context(), k.Out, second); err != nil {
				t.Fatal(err)
			}
			now := *k
			now.ETag, now.Serial, now.HookDue = "2", second.Serial(), true
			if err := now.save(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{filepath.Join(s.Dir, "hook"), k.Out} {
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
			}
			if err := certfile.Write(t.Context(), k.Out, first); err != nil {
				t.Fatal(err)
			}
			due := saved
			due.HookDue = true
			if err := due.save(); err != nil { // install's first step
				t.Fatal(err)
			}
			kill(t)
			e.serves(`"2"`, sealed(t, s, second))
			if _, err := getter(t, s).Get(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			installedIs(t, s, second, second.Serial())
			// And once more is no news.
			if _, err := getter(t, s).Get(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			installedIs(t, s, second, second.Serial())
		})
	}
}

// A hook that fails stays due, and the files stay in place.
func TestHookStaysDue(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	w := want(t, s, clients.ModeAgent)
	good := w.Hook
	w.Hook = "exit 7"
	b := issue{}.bundle(t)
	e.serves(`"1"`, sealed(t, s, b))
	for range 2 {
		if _, err := getter(t, s).Get(t.Context(), w); err == nil || !strings.Contains(err.Error(), "code 7") {
			t.Errorf("error %v", err)
		}
	}
	installedIs(t, s, b)
	w.Hook = good
	if _, err := getter(t, s).Get(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	installedIs(t, s, b, b.Serial())
}

// Damaged files are named with a remedy, and do not affect other certificates.
func TestDamagedState(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	path := filepath.Join(s.Dir, enrolmentName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{", "null", "[]", `{"url":7}`, `{"url":"http://x","pin":"00"}`, string(good[:len(good)/2])} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(s.Dir, "test"); err == nil || !strings.Contains(err.Error(), enrolmentName) || !strings.Contains(err.Error(), "enrol again") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := os.WriteFile(path, []byte(`{"url":"https://x","pin":"00"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(s.Dir, "test"); err != nil {
		t.Error(err)
	} else if _, err := s.API(); err == nil || !strings.Contains(err.Error(), "pin") {
		t.Errorf("a short pin: %v", err)
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}

	b := issue{}.bundle(t)
	e.serves(`"1"`, sealed(t, s, b))
	if _, err := getter(t, s).Get(t.Context(), want(t, s, clients.ModeAgent)); err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(s.Dir, certificatesName, "damaged.json")
	for _, text := range []string{"", "{", "null", `{"names":["b.example"],"mode":"agent","out":"../out"}`, `{"names":["b.example"],"mode":"root","out":"/out"}`} {
		if err := os.WriteFile(damaged, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		all, err := s.Kept()
		if err == nil || !strings.Contains(err.Error(), "damaged.json") || !strings.Contains(err.Error(), "remove it") || len(all) != 1 {
			t.Errorf("%q: %d, %v", text, len(all), err)
		}
	}
	all, _ := s.Kept()
	for _, own := range []string{all[0].path, s.keptPath(clients.ModeAgent, cert.Names{"a.example"})} { // and that of an earlier release
		if err := os.WriteFile(own, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := getter(t, s).Get(t.Context(), want(t, s, clients.ModeAgent)); err == nil || !strings.Contains(err.Error(), filepath.Base(own)) {
			t.Errorf("its own file: %v", err)
		}
		if err := os.Remove(own); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.Dir, keyName), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.API(); err == nil || !strings.Contains(err.Error(), keyName) {
		t.Errorf("a damaged key: %v", err)
	}
}

// The daemon works on what is there, damaged neighbours or not, and ends when
// it is told to.
func TestRunBesideDamage(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	b := issue{}.bundle(t)
	e.serves(`"1"`, sealed(t, s, b))
	if err := os.MkdirAll(filepath.Join(s.Dir, certificatesName), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, certificatesName, "damaged.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- Run(ctx, RunConfig{State: s, Wanted: []Wanted{want(t, s, clients.ModeAgent)}, Poll: time.Second, Logger: slog.New(slog.DiscardHandler)})
	}()
	watch.Until(t, "the hook has run", func() bool { return len(hooks(t, s)) == 1 })
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	installedIs(t, s, b, b.Serial())
}

// A hook that hangs holds up no certificate but its own, whose next turn is
// after it.
func TestRunBesideSlowHook(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	b := issue{}.bundle(t)
	e.serves(`"1"`, sealed(t, s, b))
	gate := filepath.Join(t.TempDir(), "gate")
	slow := want(t, s, clients.ModeAgent)
	slow.Hook = "echo begun >> " + gate + "; test -e " + gate + ".open || exec sleep 600"
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, RunConfig{State: s, Wanted: []Wanted{slow}, Poll: time.Second, Logger: slog.New(slog.DiscardHandler)})
	}()
	begun := func() int {
		text, err := os.ReadFile(gate)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.Count(string(text), "begun")
	}
	watch.Until(t, "the slow hook runs", func() bool { return begun() == 1 })
	quick := want(t, s, clients.ModeGateway)
	quick.Name, quick.Out = "quick", filepath.Join(s.Dir, "quick")
	quick.Hook = "touch " + gate + ".quick"
	before := e.requests.Load()
	if err := s.remember(t.Context(), quick); err != nil {
		t.Fatal(err)
	}
	watch.Until(t, "the other has its turn", func() bool { return e.requests.Load() > before })
	if n := begun(); n != 1 {
		t.Errorf("the slow hook was begun %d times at once", n)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What a get by hand or a forget did while the daemon waited for the lock stays
// done: the daemon works on what is wanted now, not on what it had listed.
func TestTurnAfterChange(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	b := issue{}.bundle(t)
	e.serves(`"1"`, sealed(t, s, b))
	w := want(t, s, clients.ModeAgent)
	if _, err := getter(t, s).Get(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	d := &daemon{timing: defaultTiming(), RunConfig: RunConfig{State: s, Poll: time.Hour, Logger: slog.New(slog.DiscardHandler)}, getter: getter(t, s)}
	listed, err := s.Kept()
	if err != nil || len(listed) != 1 {
		t.Fatal(listed, err)
	}
	moved := w
	moved.Out = filepath.Join(s.Dir, "elsewhere")
	if _, err := getter(t, s).Get(t.Context(), moved); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(w.Out); err != nil {
		t.Fatal(err)
	}
	d.turn(t.Context(), listed[0], false)
	if all, err := s.Kept(); err != nil || len(all) != 1 || all[0].Out != moved.Out {
		t.Errorf("kept %+v, %v", all, err)
	}
	if _, err := os.Stat(w.Out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old folder: %v", err)
	}
	if done, err := s.Forget(t.Context(), &listed[0], ForgetOptions{Local: true}); err != nil || done.Mode != w.Mode {
		t.Errorf("forgot %v, %v", done, err)
	}
	before := e.requests.Load()
	d.turn(t.Context(), listed[0], false)
	if all, err := s.Kept(); err != nil || len(all) != 0 || e.requests.Load() != before {
		t.Errorf("kept again: %+v, %v", all, err)
	}
}

// One works on a certificate at a time; who waits can be stopped.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x", "y.lock")
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lock(ctx, path); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "y.lock") {
		t.Errorf("error %v", err)
	}
	got := make(chan error)
	go func() {
		unlock, err := lock(t.Context(), path)
		if err == nil {
			unlock()
		}
		got <- err
	}()
	unlock()
	if err := <-got; err != nil {
		t.Error(err)
	}
	// Other processes are held off, too.
	if unlock, err = lock(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	defer unlock()
	flock, err := exec.LookPath("flock")
	if err != nil {
		t.Skip("flock(1) is not installed")
	}
	if err := exec.CommandContext(t.Context(), flock, "--nonblock", path, "true").Run(); err == nil {
		t.Error("another process has the lock, too")
	}
}

// Two at once, by hand and by daemon: one pulls, one finds it done; the hook
// runs once.
func TestTwoAtOnce(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	b := issue{}.bundle(t)
	e.serves(`"1"`, sealed(t, s, b))
	w := want(t, s, clients.ModeAgent)
	var both sync.WaitGroup
	for range 4 {
		both.Go(func() {
			if _, err := getter(t, s).Get(t.Context(), w); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	installedIs(t, s, b, b.Serial())
}

// Two enrolments into one directory: one wins, and its key is the one kept.
func TestTwoEnrolments(t *testing.T) {
	e := newEvil(t)
	var mu sync.Mutex
	pins := map[[32]byte]bool{} // that enrolled; guarded by mu
	e.on("POST "+api.PathEnroll, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		pins[auth.SPKIPin(r.TLS.PeerCertificates[0])] = true
		mu.Unlock()
		jsonAnswer(201, api.Client{Name: "web1"})(w, r)
	})
	dir := t.TempDir()
	var both sync.WaitGroup
	var won []*State // guarded by mu
	for range 4 {
		both.Go(func() {
			s, err := Enroll(t.Context(), dir, "test", auth.EnrollToken{URL: e.URL, ProxyPin: e.pin}, EnrollOptions{})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, s)
			} else if !strings.Contains(err.Error(), "already") {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if len(won) != 1 || len(pins) != 1 {
		t.Fatalf("%d won, %d keys were enrolled", len(won), len(pins))
	}
	key, err := won[0].tlsKey(keyName)
	if err != nil || !pins[auth.SPKIPin(key.Leaf)] {
		t.Errorf("the key that is kept was not enrolled: %v", err)
	}
}

// The certificate of the old key type is no answer to a wish for another.
func TestKeyTypeChanges(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	w := want(t, s, clients.ModeAgent)
	before := issue{}.bundle(t)
	e.serves(`"1"`, sealed(t, s, before))
	if _, err := getter(t, s).Get(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	key, err := cert.GenerateKey(cert.EC384)
	if err != nil {
		t.Fatal(err)
	}
	after := issue{key: key}.bundle(t)
	ciphertext := sealed(t, s, after)
	e.on("GET "+api.PathCertificates+"/id", func(w http.ResponseWriter, r *http.Request) {
		e.serves(`"2"`, ciphertext) // the next question finds the new one
		jsonAnswer(200, api.Certificate{ID: "id"})(w, r)
	})
	w.KeyType = cert.EC384
	if _, err := getter(t, s).Get(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	installedIs(t, s, after, before.Serial(), after.Serial())
}

// If another host of the client changes the key type, the daemon reports it. Without
// that, the certificate on the disk would expire unnoticed.
func TestKeyTypeOfAnotherHost(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	w := want(t, s, clients.ModeAgent)
	own := issue{}.bundle(t)
	e.serves(`"1"`, sealed(t, s, own))
	k, err := getter(t, s).Get(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	key, err := cert.GenerateKey(cert.EC384)
	if err != nil {
		t.Fatal(err)
	}
	e.serves(`"2"`, sealed(t, s, issue{key: key}.bundle(t)))
	next := time.Now().Add(30 * 24 * time.Hour)
	answer := api.Certificate{ID: "id", Status: api.StatusValid, NextAttempt: &next}
	e.on("GET "+api.PathCertificates+"/id", func(w http.ResponseWriter, r *http.Request) { jsonAnswer(200, answer)(w, r) })
	for name, opts := range map[string]pullOptions{"daemon": daemonPull(), "command": commandPull(false)} {
		if err := getter(t, s).pull(t.Context(), k, opts); err == nil || !strings.Contains(err.Error(), "does not have a key of type ec256") {
			t.Errorf("%s: %v", name, err)
		}
	}
	soon := time.Now()
	answer.NextAttempt = &soon // the proxy obtains another one
	if err := getter(t, s).pull(t.Context(), k, daemonPull()); err != nil {
		t.Errorf("while the proxy works: %v", err)
	}
	installedIs(t, s, own, own.Serial())
}

// A certificate that was revoked in one mode is not taken over in the other, when
// the same folder is wanted in that (C18).
func TestRevokedInOtherMode(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	w := want(t, s, clients.ModeAgent)
	b := issue{notBefore: -time.Hour}.bundle(t)
	e.serves(`"1"`, sealed(t, s, b))
	k, err := getter(t, s).Get(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	if s.hasRevoked(b.Serial()) {
		t.Error("it is revoked already")
	}
	for name, change := range map[string]func(*Kept){
		"revoked":   func(k *Kept) { k.Revoked = b.Serial() },
		"asked for": func(k *Kept) { k.Revoking = &revoking{Serial: b.Serial()} },
	} {
		now := *k
		change(&now)
		if err := now.save(); err != nil {
			t.Fatal(err)
		}
		if !s.hasRevoked(b.Serial()) || s.hasRevoked("other") {
			t.Errorf("%s: not found, or another one is", name)
		}
	}
}
