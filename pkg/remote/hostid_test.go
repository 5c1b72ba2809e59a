package remote

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// Two hosts whose state directories have the same path do not take a shared folder from
// each other. The ID stays after a new enrolment, and a damaged one refuses no host (X43).
func TestHostsWithOnePath(t *testing.T) {
	t.Parallel()
	e := newEvil(t)
	s := e.enrolled(t)
	orders := 0
	e.on("POST "+api.PathCertificates, func(w http.ResponseWriter, r *http.Request) {
		orders++
		var req api.CertificateRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			t.Error(err)
		}
		csr, err := cert.ParseCSR([]byte(req.CSR))
		if err != nil {
			t.Error(err)
			return
		}
		chain := string(issue{public: csr.Public}.bundle(t).LeafPEM())
		jsonAnswer(200, api.Event{Event: api.EventCertificate, Chain: chain, Bundle: []byte("x")})(w, r)
	})
	w := want(t, s, clients.ModeGateway)
	w.Out = filepath.Join(t.TempDir(), "shared")
	if _, err := getter(t, s).Get(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	id := readHostID(s.Dir)
	if id == "" || orders != 1 {
		t.Fatalf("ID %q, %d orders", id, orders)
	}
	path := filepath.Join(s.Dir, hostIDName)
	renew := func() error {
		_, err := getter(t, s).GetWith(t.Context(), w, GetOptions{Renew: true})
		return err
	}
	if err := errors.Join(s.ensureHostID(t.Context()), renew()); err != nil || readHostID(s.Dir) != id {
		t.Errorf("ID %q, then %q (%v)", id, readHostID(s.Dir), err)
	}

	// the folder is the other host's
	if err := localfile.Replace(path, []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZ\n")); err != nil {
		t.Fatal(err)
	}
	if err := renew(); !errors.As(err, new(*certfile.OwnedError)) || orders != 2 {
		t.Errorf("another host: %v, %d orders", err, orders)
	}
	if err := localfile.Replace(path, []byte("damaged")); err != nil {
		t.Fatal(err)
	}
	if err := renew(); err != nil || orders != 3 {
		t.Errorf("a damaged ID: %v, %d orders", err, orders)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "damaged" {
		t.Errorf("%q (%v)", text, err)
	}
}
