package remote

import (
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/smalldisk"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// fillable is a remote in gateway mode whose state and files are on a small disk.
type fillable struct {
	disk   smalldisk.Disk
	state  *State
	daemon *daemon
	kept   Kept
	orders atomic.Int64
	before func() // called when an order arrives
	status int    // of the answer, if not 200
}

func newFillable(t *testing.T) *fillable {
	t.Helper()
	f := &fillable{disk: smalldisk.Mount(t, 1<<20), before: func() {}}
	e := newEvil(t)
	e.on("POST "+api.PathEnroll, jsonAnswer(201, api.Client{Name: "web1"}))
	e.on("POST "+api.PathCertificates, func(w http.ResponseWriter, r *http.Request) {
		f.orders.Add(1)
		f.before()
		if f.status != 0 {
			jsonAnswer(f.status, api.Problem{Status: f.status, RetryAfter: 3600})(w, r)
			return
		}
		var req api.CertificateRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			t.Error(err)
			return
		}
		block, _ := pem.Decode([]byte(req.CSR))
		csr, err := cert.ParseCSR(block.Bytes)
		if err != nil {
			t.Error(err)
			return
		}
		chain := issue{public: csr.Public}.bundle(t).FullchainPEM()
		jsonAnswer(200, api.Event{Event: api.EventCertificate, Chain: string(chain)})(w, r)
	})
	var err error
	f.state, err = Enroll(t.Context(), filepath.Join(f.disk.Dir, "state"), "test", auth.EnrollToken{URL: e.URL, ProxyPin: e.pin}, EnrollOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w := want(t, f.state, clients.ModeGateway)
	w.Hook = ""
	if err := f.state.remember(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	all, err := f.state.Kept()
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	f.kept = all[0]
	f.daemon = &daemon{timing: defaultTiming(), RunConfig: RunConfig{State: f.state, Poll: time.Minute, Logger: slog.New(slog.DiscardHandler)}, getter: getter(t, f.state)}
	if unlock, err := f.kept.lock(t.Context()); err != nil { // its file exists
		t.Fatal(err)
	} else {
		unlock()
	}
	return f
}

// turns takes turns without the pause between them.
func (f *fillable) turns(t *testing.T, n int) (next time.Time) {
	t.Helper()
	for range n {
		next = f.daemon.turn(t.Context(), f.kept, false)
	}
	return next
}

// While the disk is full, nothing is ordered; as soon as there is room, it
// is.
func TestFullDiskOrdersNothing(t *testing.T) {
	f := newFillable(t)
	f.disk.Fill(t, 0)
	if next := f.turns(t, 10); time.Until(next) > 2*time.Minute {
		t.Errorf("the next turn is at %v; a full disk is tried again soon", next)
	}
	if n := f.orders.Load(); n != 0 {
		t.Errorf("%d orders that could not be stored", n)
	}
	for _, renew := range []bool{false, true} { // by hand, too
		if _, err := f.daemon.getter.GetWith(t.Context(), f.kept.Wanted, GetOptions{Renew: renew}); err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("%v", err)
		}
	}
	if n := f.orders.Load(); n != 0 {
		t.Errorf("%d orders by hand that could not be stored", n)
	}
	f.disk.Clear(t)
	f.daemon.getter.unstored.delays = nil // the short delay is over
	f.turns(t, 10)
	if n := f.orders.Load(); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
}

// A disk that fills while the CA works loses no certificate: it stays in
// memory, and is installed when there is room.
func TestDiskFillsDuringAnOrder(t *testing.T) {
	f := newFillable(t)
	f.before = func() { f.disk.Fill(t, 0) }
	for range 10 {
		f.turns(t, 1)
		f.daemon.getter.unstored.delays = nil
	}
	if n := f.orders.Load(); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	if _, err := certfile.Read(f.kept.Out); err == nil {
		t.Error("it was stored on a full disk")
	}
	f.disk.Clear(t)
	f.before = func() {}
	f.turns(t, 2)
	if _, err := certfile.Read(f.kept.Out); err != nil {
		t.Error(err)
	}
	if n := f.orders.Load(); n != 1 {
		t.Errorf("%d orders, want 1: the first certificate is good", n)
	}
}

// A delay that the CA asks for counts, although it cannot be saved.
func TestDelayOfAFullDisk(t *testing.T) {
	f := newFillable(t)
	f.status = http.StatusTooManyRequests
	f.before = func() { f.disk.Fill(t, 0) }
	if next := f.turns(t, 10); time.Until(next) < 30*time.Minute {
		t.Errorf("the next turn is at %v, want it when the CA allows it", next)
	}
	if n := f.orders.Load(); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	if k, err := readKept(f.kept.path); err != nil || k.Failures != 0 {
		t.Errorf("%+v, %v: was it saved?", k, err)
	}
	// A get by hand that succeeds ends the delay.
	f.disk.Clear(t)
	f.status, f.before = 0, func() {}
	if _, err := getter(t, f.state).Get(t.Context(), f.kept.Wanted); err != nil {
		t.Fatal(err)
	}
	if next := f.turns(t, 1); time.Until(next) > 2*time.Minute {
		t.Errorf("the next turn is at %v, want at the next poll", next)
	}
}

// An output that cannot be used is known before an order: a folder instead
// of a file, a file instead of the folder, a link to nowhere. The daemon, too.
func TestUnusableOutputOrdersNothing(t *testing.T) {
	f := newFillable(t)
	for name, spoil := range map[string]func(out string) error{
		"folder cert.pem":   func(out string) error { return os.MkdirAll(filepath.Join(out, "cert.pem"), 0o755) },
		"file .acmeproxy":   func(out string) error { return os.WriteFile(filepath.Join(out, ".acmeproxy"), nil, 0o600) },
		"link to nowhere":   func(out string) error { _ = os.Remove(out); return os.Symlink("/mnt/not-mounted/x", out) },
		"file for a folder": func(out string) error { _ = os.Remove(out); return os.WriteFile(out, nil, 0o600) },
	} {
		w := f.kept.Wanted
		w.Out = filepath.Join(t.TempDir(), "out")
		if err := os.Mkdir(w.Out, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := spoil(w.Out); err != nil {
			t.Fatal(err)
		}
		if _, err := f.daemon.getter.Get(t.Context(), w); err == nil || !strings.HasPrefix(err.Error(), "out: ") {
			t.Errorf("%s: %v", name, err)
		}
		k := f.kept // remembered before it was spoiled
		k.Out = w.Out
		if err := k.save(); err != nil {
			t.Fatal(err)
		}
		f.daemon.getter.unstored.delays = nil
		f.daemon.turn(t.Context(), k, false)
	}
	if n := f.orders.Load(); n != 0 {
		t.Errorf("%d orders", n)
	}
}
