package remote

import (
	"errors"
	"io/fs"
	"log/slog"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// managedKept is a certificate that the proxy manages.
func managedKept(t *testing.T, s *State) *Kept {
	t.Helper()
	k, err := s.loadKept(want(t, s, clients.ModeAgent))
	if err != nil {
		t.Fatal(err)
	}
	k.ID = "id"
	if err := k.save(); err != nil {
		t.Fatal(err)
	}
	return k
}

// A proxy of an earlier release would delete the certificates of several hosts, so it is
// not asked if the client may have several.
func TestForgetAtOlderProxy(t *testing.T) { // X43
	for recipients, want := range map[string]AtProxy{"own": ProxyEnded, "own other": ProxyShared} {
		e := newEvil(t)
		s := e.enrolled(t)
		var gone deletions
		e.on("GET "+api.PathClient, jsonAnswer(200, api.Client{Name: "web1", Recipients: make([]string, 1+len(recipients)/5)}))
		e.on("DELETE "+api.PathCertificates+"/{id}", gone.answer(200))
		done, err := s.Forget(t.Context(), managedKept(t, s), ForgetOptions{})
		if err != nil || done.Proxy != want || len(gone.list()) > 0 != (want == ProxyEnded) {
			t.Errorf("%s: %+v, %v; deleted %q", recipients, done, err, gone.list())
		}
		if all, err := s.Kept(); err != nil || len(all) != 0 {
			t.Errorf("still kept: %v %v", all, err)
		}
	}
}

// A refusal changes nothing. After a kill, or a lost answer, the daemon completes it.
func TestForgetInterrupted(t *testing.T) { // X43
	e := newEvil(t)
	s := e.enrolled(t)
	var gone deletions
	e.on("GET "+api.PathClient, jsonAnswer(200, api.Client{Name: "web1", Hosts: 1}))
	e.on("DELETE "+api.PathCertificates+"/{id}", gone.answer(503))
	k := managedKept(t, s)
	if _, err := s.Forget(t.Context(), k, ForgetOptions{}); !errors.As(err, new(*ProxyError)) {
		t.Errorf("error %v", err)
	}
	if now, err := readKept(k.path); err != nil || now.Forgetting != nil {
		t.Fatalf("%+v, %v", now, err)
	}
	k.Forgetting = &forgetting{} // as a killed process leaves it
	if err := k.save(); err != nil {
		t.Fatal(err)
	}
	e.reset()
	e.on("GET "+api.PathClient, jsonAnswer(200, api.Client{Name: "web1", Hosts: 1}))
	e.on("DELETE "+api.PathCertificates+"/{id}", gone.answer(404)) // it was deleted before the kill
	d := &daemon{timing: defaultTiming(), getter: getter(t, s), RunConfig: RunConfig{State: s, Poll: time.Minute, Logger: slog.New(slog.DiscardHandler)}}
	d.turn(t.Context(), *k, false)
	if _, err := readKept(k.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}
