package remote

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// Another host ended the proxy's work, so this one registers the certificate again. While
// its files are good, the proxy's pause is no failure for the daemon, but for a command.
func TestPauseWithGoodFiles(t *testing.T) { // X43
	t.Parallel()
	at, hour := time.Now().Add(time.Hour).UTC(), 3600
	for name, tc := range map[string]struct {
		opts   pullOptions
		length time.Duration // of the certificate on the disk, half of which is over
		fails  bool
	}{
		"daemon":             {daemonPull(), 60 * 24 * time.Hour, false},
		"daemon, due before": {daemonPull(), 3 * time.Hour, true},
		"command":            {commandPull(false), 60 * 24 * time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEvil(t)
			s := e.enrolled(t)
			k, err := s.loadKept(want(t, s, clients.ModeAgent))
			if err != nil {
				t.Fatal(err)
			}
			g := getter(t, s)
			if err := g.install(t.Context(), k, issue{notBefore: -tc.length / 2, length: tc.length}.bundle(t), "1"); err != nil {
				t.Fatal(err)
			}
			pending := api.Certificate{ID: "2", Status: api.StatusPending, NextAttempt: &at, RetryAfter: &hour}
			e.on("POST "+api.PathCertificates, jsonAnswer(202, pending))
			e.on("GET "+api.PathCertificates+"/2", jsonAnswer(200, pending))
			k.ID = "1" // unknown to the proxy
			err = g.pull(t.Context(), k, tc.opts)
			if k.ID != "2" || (err != nil) != tc.fails || err != nil && !strings.Contains(err.Error(), "it asks the CA at") {
				t.Errorf("registered as %q, %v", k.ID, err)
			}
		})
	}
}

// A refused attempt says who asked to wait (X44).
func TestWhoAskedToWait(t *testing.T) {
	t.Parallel()
	for kind, reason := range map[string]managed.Reason{
		"urn:ietf:params:acme:error:rateLimited": managed.CAWaits, "": managed.ProxyWaits,
	} {
		e := newEvil(t)
		s := e.enrolled(t)
		e.on("POST "+api.PathCertificates, func(w http.ResponseWriter, r *http.Request) {
			jsonAnswer(429, api.Problem{Type: kind, Detail: "limit", RetryAfter: 3600})(w, r)
		})
		d, kept := newDaemon(t, s, clients.ModeGateway)
		d.turn(t.Context(), kept(), false)
		var early *managed.NotNow
		if _, _, err := d.getter.Retry(t.Context(), kept(), false); !errors.As(err, &early) || early.Reason != reason {
			t.Errorf("%q: %v", kind, err)
		}
	}
}
