package remote

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// A person's try that a fault of this host ends before the order keeps the planned time,
// and does not count (X44).
func TestLocalFaultKeepsPlan(t *testing.T) {
	t.Parallel()
	e := newEvil(t)
	s := e.enrolled(t)
	orders := 0
	e.on("POST "+api.PathCertificates, func(w http.ResponseWriter, r *http.Request) {
		orders++
		jsonAnswer(422, api.Problem{Detail: "DNS"})(w, r)
	})
	d, kept := newDaemon(t, s, clients.ModeGateway)
	d.turn(t.Context(), kept(), false)
	k := kept()
	k.NextAttempt = time.Now().Add(5 * time.Hour).UTC().Truncate(time.Second)
	if err := k.save(); err != nil {
		t.Fatal(err)
	}
	planned := k.NextAttempt
	if err := os.WriteFile(k.Out, nil, 0o600); err != nil { // no folder can be made there
		t.Fatal(err)
	}
	for range 5 {
		if at := d.turn(t.Context(), kept(), true); !at.Equal(planned) {
			t.Errorf("next turn at %v, want %v", at, planned)
		}
	}
	if k := kept(); orders != 1 || !k.NextAttempt.Equal(planned) || k.Failures != 1 || len(k.Tries) != 0 || !strings.HasPrefix(k.LastError, "out: ") {
		t.Errorf("%d orders, %+v", orders, k)
	}
	if err := os.Remove(k.Out); err != nil {
		t.Fatal(err)
	}
	d.turn(t.Context(), kept(), true)
	if k := kept(); orders != 2 || len(k.Tries) != 1 || !k.NextAttempt.Before(planned) {
		t.Errorf("after the repair: %d orders, %+v", orders, k)
	}
}
