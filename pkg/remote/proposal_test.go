package remote

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// Other names of a certificate in gateway mode have four attempts an hour. They do not
// change the certificate, and an attempt that reaches no proxy does not count (X44).
func TestProposalsAreBounded(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	orders := 0
	e.on("POST "+api.PathCertificates, func(w http.ResponseWriter, r *http.Request) {
		orders++
		jsonAnswer(422, api.Problem{Detail: "DNS"})(w, r)
	})
	_, kept := newDaemon(t, s, clients.ModeGateway)
	w := kept().Wanted
	w.Names = cert.Names{"a.example", "b.example"}
	get := func(s *State) error {
		_, err := getter(t, s).GetWith(t.Context(), w, GetOptions{Replace: true})
		return err
	}
	down := *s
	down.enrolment.URL = "https://127.0.0.1:1"
	if err := get(&down); !IsUnreachable(err) {
		t.Fatal(err)
	}
	for n := 1; n <= 6; n++ {
		err := get(s)
		if early := errors.As(err, new(*managed.NotNow)); err == nil || early != (n > 4) || !strings.Contains(err.Error(), "DNS") {
			t.Errorf("attempt %d: %v", n, err)
		}
	}
	k := kept()
	if orders != 4 || !k.Names.Equal(cert.Names{"a.example"}) || k.LastError != "" || len(k.Tries) != 0 || k.Former != nil {
		t.Errorf("%d orders, %+v", orders, k)
	}
	w.Names = cert.Names{"c.example"}
	if err := get(s); errors.As(err, new(*managed.NotNow)) || orders != 5 {
		t.Errorf("third names: %v after %d orders", err, orders)
	}
}

// If a process is killed after the files of other names are in place, they are the
// result. Those of a former mode are not, because the proxy may know their key.
func TestInstalledBeforeTheState(t *testing.T) { // X43
	both := cert.Names{"a.example", "b.example"}
	for name, tc := range map[string]struct {
		names cert.Names
		mode  clients.Mode // the former one
		tried clients.Mode // of the same names, before; empty: none
		used  bool         // the files are the result
	}{
		"other names":         {both, clients.ModeGateway, "", true},
		"other mode":          {cert.Names{"a.example"}, clients.ModeAgent, "", false},
		"tried in agent mode": {both, clients.ModeGateway, clients.ModeAgent, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEvil(t)
			s := e.enrolled(t)
			orders := 0
			e.on("POST "+api.PathCertificates, func(w http.ResponseWriter, r *http.Request) {
				orders++
				jsonAnswer(422, api.Problem{Detail: "DNS"})(w, r)
			})
			d, kept := newDaemon(t, s, tc.mode)
			k := kept()
			if err := d.getter.install(t.Context(), &k, issue{}.bundle(t), ""); err != nil {
				t.Fatal(err)
			}
			w := k.Wanted
			w.Names = tc.names
			if tc.tried != "" {
				w.Mode = tc.tried
				k.change(w)
			}
			w.Mode = clients.ModeGateway
			k.change(w)
			installed := issue{names: tc.names}.bundle(t)
			k.HookDue = true
			if err := errors.Join(k.save(), k.WriteAs(t.Context(), k.Out, installed, k.claim())); err != nil {
				t.Fatal(err)
			}
			d.turn(t.Context(), kept(), false)
			k = kept()
			if (orders == 0) != tc.used || (k.Former == nil) != tc.used || (k.Serial == installed.Serial()) != tc.used {
				t.Errorf("%d orders, %+v", orders, k)
			}
			if seen := hooks(t, s); tc.used && (len(seen) != 2 || seen[1] != installed.Serial()) {
				t.Errorf("hooks for %q", seen)
			}
		})
	}
}
