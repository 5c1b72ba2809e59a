package rest_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// One of two enrolled hosts does not end the certificate of the other, unless it says
// so (X43).
func TestDeleteShared(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	first := p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "**.example.com"))
	one, _ := p.WithKey(t, first.Dir)
	m := one.Register(t, "a.example.com")
	one.Bundle(t, m.ID, "")
	serial := one.Certificate(t, m.ID).Serial
	second, err := proxytest.EnrollHost(t, p.NewToken(t, "web1", admin.NewToken{}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Rekey(t.Context(), ""); err != nil { // it remains one host
		t.Fatal(err)
	}
	var self api.Client
	if r := one.Do(t, http.MethodGet, api.PathClient, nil); json.Unmarshal(r.Body, &self) != nil || self.Hosts != 2 {
		t.Errorf("the client: %s", r.Body)
	}
	path := api.PathCertificates + "/" + m.ID
	for _, query := range []string{"", "?shared=false", "?revoke=true", "?revoke=true&reason=superseded"} {
		r := one.Do(t, http.MethodDelete, path+query, nil)
		if problem := r.Problem(t); r.Status != http.StatusConflict || problem.Type != api.ProblemShared {
			t.Errorf("%q: %d %s", query, r.Status, r.Body)
		}
	}
	if got := one.Certificate(t, m.ID); got.Serial != serial || got.Status != api.StatusValid {
		t.Errorf("after the refusals: %+v", got)
	}
	if r := one.Do(t, http.MethodDelete, path+"?shared=true", nil); r.Status != http.StatusNoContent {
		t.Errorf("shared: %d %s", r.Status, r.Body)
	}
	m = one.Register(t, "b.example.com")
	one.Bundle(t, m.ID, "")
	if r := one.Do(t, http.MethodDelete, api.PathCertificates+"/"+m.ID+"?shared=true&revoke=true", nil); r.Status != http.StatusNoContent {
		t.Errorf("shared and revoked: %d %s", r.Status, r.Body)
	}
	if n := p.Audited(t, "web1", "revoke", "done"); n != 1 {
		t.Errorf("%d revocations", n)
	}
}

// A client with one host, or with a token only, deletes as before.
func TestDeleteUnshared(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "**.example.com"))
	if _, err := host.Rekey(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	p.NewToken(t, "web1", admin.NewToken{}) // not used yet
	key, _ := p.WithKey(t, host.Dir)
	_, recipient := proxytest.NewIdentity(t)
	for name, c := range map[string]*proxytest.Caller{
		"one host": key,
		"a token":  p.NewCaller(t, "script", []string{recipient}, proxytest.Grant(clients.ModeAgent, "**.example.org")),
	} {
		list := "a.example.com"
		if name == "a token" {
			list = "a.example.org"
		}
		m := c.Register(t, list)
		if r := c.Do(t, http.MethodDelete, api.PathCertificates+"/"+m.ID, nil); r.Status != http.StatusNoContent {
			t.Errorf("%s: %d %s", name, r.Status, r.Body)
		}
	}
}
