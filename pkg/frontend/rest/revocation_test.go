package rest_test

import (
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// proofOf is a request with the proof of a key.
func proofOf(t testing.TB, b *cert.Bundle, reason cert.Reason) api.RevokeRequest {
	t.Helper()
	proof, err := cert.ProveRevocation(b.Key, b.Leaf.Raw, reason)
	if err != nil {
		t.Fatal(err)
	}
	return api.RevokeRequest{Certificate: string(b.LeafPEM()), Reason: string(reason), Proof: base64.StdEncoding.EncodeToString(proof)}
}

// DELETE with revoke=true revokes at the CA and then deletes; if the CA does
// not revoke, nothing is deleted and the answer says why (D4).
func TestRevokeAndDelete(t *testing.T) {
	t.Parallel()
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	c, m, b := p.Managed(t, "web1", "a.example.com")
	path := api.PathCertificates + "/" + m.ID
	for query, field := range map[string]string{"?revoke=true&reason=stolen": "reason", "?reason=superseded": "reason"} {
		if r := c.Do(t, http.MethodDelete, path+query, nil); r.Status != http.StatusUnprocessableEntity || !strings.Contains(r.Problem(t).Detail, field) {
			t.Errorf("%s: %d %s", query, r.Status, r.Body)
		}
	}
	for _, kind := range []string{pebbletest.RevokeCert, pebbletest.Certificate} {
		ca.Fail(http.StatusServiceUnavailable, kind)
		r := c.Do(t, http.MethodDelete, path+"?revoke=true", nil)
		if r.Status != http.StatusServiceUnavailable || !strings.Contains(r.Problem(t).Detail, "503") {
			t.Errorf("%s fails: %d %s", kind, r.Status, r.Body)
		}
	}
	if got := c.Certificate(t, m.ID); got.Serial != b.Serial() || got.Status != api.StatusValid {
		t.Errorf("after a failure: %+v", got)
	}
	p.WantRevoked(t, b, false, "")
	ca.PassAll()
	if r := c.Do(t, http.MethodDelete, path+"?revoke=true&reason=KEYCOMPROMISE", nil); r.Status != http.StatusNoContent {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	p.WantRevoked(t, b, true, cert.KeyCompromise)
	if r := c.Do(t, http.MethodGet, path, nil); r.Status != http.StatusNotFound {
		t.Errorf("the row: %d", r.Status)
	}
	if done, failed := p.Audited(t, "web1", "revoke", "done"), p.Audited(t, "web1", "revoke", "failed"); done != 1 || failed != 1 {
		t.Errorf("audited %d done, %d failed", done, failed)
	}
}

// What an older program obtained cannot be found at the CA: the answer says
// what to do. What has expired needs no revocation (D4).
func TestRevokeAndDeleteOld(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(), Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	c, m, b := p.Managed(t, "web1", "a.example.com")
	db, err := sql.Open("sqlite", filepath.Join(p.DataDir, "acmeproxy.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), "UPDATE bundles SET certificate_url = ''"); err != nil {
		t.Fatal(err)
	}
	path := api.PathCertificates + "/" + m.ID + "?revoke=true"
	if r := c.Do(t, http.MethodDelete, path, nil); r.Status != http.StatusConflict || !strings.Contains(r.Problem(t).Detail, "remote revoke") {
		t.Errorf("without URL: %d %s", r.Status, r.Body)
	}
	p.WantRevoked(t, b, false, "")
	ca.Fail(http.StatusServiceUnavailable)
	clk.Advance(91 * 24 * time.Hour)
	if r := c.Do(t, http.MethodDelete, path, nil); r.Status != http.StatusNoContent {
		t.Errorf("expired: %d %s", r.Status, r.Body)
	}
}

// A certificate of a CA that is no longer configured cannot be revoked: the answer
// names the CA, and the row stays.
func TestRevokeAtUnknownCA(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	c, m, b := p.Managed(t, "web1", "a.example.com")
	db, err := sql.Open("sqlite", filepath.Join(p.DataDir, "acmeproxy.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, table := range []string{"managed", "bundles"} {
		if _, err := db.ExecContext(t.Context(), "UPDATE "+table+" SET ca = 'https://old.example/dir'"); err != nil {
			t.Fatal(err)
		}
	}
	for request, r := range map[string]proxytest.Reply{
		"revoke and delete": c.Do(t, http.MethodDelete, api.PathCertificates+"/"+m.ID+"?revoke=true", nil),
		"revoke":            c.Do(t, http.MethodPost, api.PathRevoke, api.RevokeRequest{Certificate: string(b.LeafPEM())}),
	} {
		if detail := r.Problem(t).Detail; r.Status != http.StatusConflict || !strings.Contains(detail, "no longer uses the CA") || !strings.Contains(detail, "https://old.example/dir") {
			t.Errorf("%s: %d %s", request, r.Status, r.Body)
		}
	}
	p.WantRevoked(t, b, false, "")
	if got := c.Certificate(t, m.ID); got.Status != api.StatusValid || got.Serial != b.Serial() {
		t.Errorf("the certificate after failed revocations: %+v", got)
	}
}

// A client revokes its managed certificate without proof. It is not delivered any more,
// and is replaced after the minimum interval of renewals, so that a loop cannot use up
// orders. A repeated revocation has no effect.
func TestRevokeHeld(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
	c, m, b := p.Managed(t, "web1", "a.example.com", "b.example.com")
	etag := c.Bundle(t, m.ID, "").ETag()
	req := api.RevokeRequest{Certificate: string(b.LeafPEM()), Reason: "superseded"}
	var next time.Time
	for range 3 {
		done := c.Revoke(t, req)
		if done.Serial != b.Serial() || done.ID != m.ID || done.NextAttempt == nil || done.Reason != "superseded" {
			t.Fatalf("%+v", done)
		}
		next = *done.NextAttempt
	}
	if wait := next.Sub(clk.Now()); wait < 50*time.Minute || wait > time.Hour {
		t.Errorf("another one in %v", wait)
	}
	p.WantRevoked(t, b, true, cert.Superseded)
	if n := p.CA.Requests().Count(pebbletest.RevokeCert); n != 1 {
		t.Errorf("the CA was asked %d times", n)
	}
	if got := c.Certificate(t, m.ID); got.Status != api.StatusRevoked {
		t.Errorf("status %q", got.Status)
	}
	path := api.PathCertificates + "/" + m.ID + "/bundle"
	for _, have := range []string{"", etag} {
		if r := c.Do(t, http.MethodGet, path, nil, "If-None-Match", have); r.Status != http.StatusNotFound {
			t.Errorf("the revoked bundle: %d", r.Status)
		}
	}
	waiting := make(chan proxytest.Reply, 1)
	go func() {
		r, err := c.Try(t, http.MethodGet, path+"?wait=60s", nil)
		if err != nil {
			t.Error(err)
		}
		waiting <- r
	}()
	p.Tick(t)
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders before the pause is over", n)
	}
	clk.Advance(time.Hour + time.Minute)
	p.Renewals.Wake()
	if r := <-waiting; r.Status != http.StatusOK || r.ETag() == etag {
		t.Fatalf("the long poll: %d", r.Status)
	}
	if got := c.Certificate(t, m.ID); got.Status != api.StatusValid || got.Serial == b.Serial() {
		t.Errorf("after the replacement: %+v", got)
	}
}

// forget deletes the row instead of obtaining another; a revoked certificate
// can still be deleted with revoke=true.
func TestRevokeAndForget(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	c, m, b := p.Managed(t, "web1", "a.example.com")
	req := api.RevokeRequest{Certificate: string(b.LeafPEM())}
	c.Revoke(t, req)
	req.Forget = true
	if done := c.Revoke(t, req); done.NextAttempt != nil || done.ID != m.ID {
		t.Errorf("%+v", done)
	}
	p.WantRevoked(t, b, true, cert.Unspecified)
	if r := c.Do(t, http.MethodGet, api.PathCertificates+"/"+m.ID, nil); r.Status != http.StatusNotFound {
		t.Errorf("the row: %d", r.Status)
	}
	again := c.Register(t, "a.example.com")
	c.Bundle(t, again.ID, "")
	p.Stop(t)
	p.Restart(t)
	if r := c.Do(t, http.MethodDelete, api.PathCertificates+"/"+again.ID+"?revoke=true", nil); r.Status != http.StatusNoContent {
		t.Errorf("%d %s", r.Status, r.Body)
	}
}

// A certificate for a CSR is not obtained again for a compromised key, with any later
// request of its client.
func TestRevokeCompromisedCSR(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
	id, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	ask := api.CertificateRequest{Mode: clients.ModeAgent, CSR: proxytest.CSR(t, key, proxytest.Names(t, "a.example.com"))}
	m := c.Registered(t, ask)
	b := proxytest.OpenBundle(t, c.Bundle(t, m.ID, "").Body, proxytest.Names(t, "a.example.com"), id)
	if done := c.Revoke(t, api.RevokeRequest{Certificate: string(b.LeafPEM()), Reason: "keyCompromise"}); done.NextAttempt != nil {
		t.Errorf("another at %v", done.NextAttempt)
	}
	if again := c.Registered(t, ask); again.Status != api.StatusRevoked || again.NextAttempt != nil {
		t.Errorf("the same CSR again: %+v", again)
	}
	if done := c.Revoke(t, api.RevokeRequest{Certificate: string(b.LeafPEM()), Reason: "superseded"}); done.NextAttempt != nil {
		t.Errorf("after another reason: another at %v", done.NextAttempt)
	}
	clk.Advance(2 * time.Hour)
	if r := c.Do(t, http.MethodPost, api.PathCertificates+"/"+m.ID+"/renew", nil); r.Status != http.StatusUnprocessableEntity {
		t.Errorf("a renewal: %d %s", r.Status, r.Body)
	}
	p.Tick(t)
	if n := p.Orders(); n != 1 {
		t.Errorf("%d orders for a key that is compromised", n-1)
	}
	if key, err = cert.GenerateKey(cert.EC256); err != nil {
		t.Fatal(err)
	}
	ask.CSR = proxytest.CSR(t, key, proxytest.Names(t, "a.example.com"))
	c.Registered(t, ask)
	if b2 := proxytest.OpenBundle(t, c.Bundle(t, m.ID, "").Body, proxytest.Names(t, "a.example.com"), id); !cert.SameKey(b2.Leaf.PublicKey, key.Public()) {
		t.Error("not for the new key")
	}
}

// Revoking another client's certificate needs its key, and every refusal has the same
// text. The holder of the key also needs a grant for the names (X14).
func TestRevokeOthers(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	web1, m, victim := p.Managed(t, "web1", "a.example.com")
	thief, _, own := p.Managed(t, "web2", "b.example.com") // granted a.example.com, too
	_, recipient := proxytest.NewIdentity(t)
	outside := p.NewCaller(t, "web3", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.org"))

	right := proofOf(t, victim, cert.Unspecified)
	withoutProof, foreignProof, ofAnother, otherReason := right, right, right, right
	withoutProof.Proof = ""
	foreign, err := cert.ProveRevocation(own.Key, victim.Leaf.Raw, cert.Unspecified)
	if err != nil {
		t.Fatal(err)
	}
	foreignProof.Proof = base64.StdEncoding.EncodeToString(foreign)
	ofAnother.Proof = proofOf(t, own, cert.Unspecified).Proof
	otherReason.Reason = "keyCompromise"
	like := &x509.Certificate{SerialNumber: victim.Leaf.SerialNumber, DNSNames: victim.Leaf.DNSNames, NotAfter: victim.NotAfter()}
	forged, err := x509.CreateCertificate(rand.Reader, like, like, own.Key.Public(), own.Key)
	if err != nil {
		t.Fatal(err)
	}
	unknown := ofAnother // an unknown certificate gets the same answer
	unknown.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: forged}))
	texts := map[string]bool{}
	for name, req := range map[string]api.RevokeRequest{
		"without proof": withoutProof, "by its own key": foreignProof, "for another certificate": ofAnother, "for another reason": otherReason, "forged": unknown,
	} {
		for who, c := range map[string]*proxytest.Caller{"granted": thief, "not granted": outside} {
			r := c.Do(t, http.MethodPost, api.PathRevoke, req)
			if r.Status != http.StatusForbidden {
				t.Errorf("%s, %s: %d %s", name, who, r.Status, r.Body)
			}
			texts[r.Problem(t).Detail] = true
		}
	}
	if r := outside.Do(t, http.MethodPost, api.PathRevoke, right); r.Status != http.StatusForbidden || !strings.Contains(r.Problem(t).Detail, "a.example.com is not granted") {
		t.Errorf("with the key, not granted: %d %s", r.Status, r.Body)
	}
	if len(texts) != 1 {
		t.Errorf("refusals differ: %v", texts)
	}
	if r := thief.Do(t, http.MethodDelete, api.PathCertificates+"/"+m.ID+"?revoke=true", nil); r.Status != http.StatusForbidden {
		t.Errorf("by its id: %d %s", r.Status, r.Body)
	}
	if n := p.CA.Requests().Count(pebbletest.RevokeCert); n != 0 {
		t.Errorf("the CA was asked %d times", n)
	}
	p.WantRevoked(t, victim, false, "")
	if n := p.Audited(t, "web2", "revoke", "refused"); n != 5 {
		t.Errorf("%d refusals of web2 audited, want 5", n)
	}
	if got := web1.Certificate(t, m.ID); got.Status != api.StatusValid {
		t.Errorf("%+v", got)
	}
	if done := thief.Revoke(t, right); done.ID != "" || done.NextAttempt != nil {
		t.Errorf("who has the key learns of the owner: %+v", done)
	}
	p.WantRevoked(t, victim, true, cert.Unspecified)
}

// From a network without a grant, a client can change nothing. So a thief of its key or
// token in another network can read sealed bundles, and no more (A22, X14).
func TestFromElsewhere(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "*.example.com"))
	k, err := proxytest.Get(t, host, clients.ModeAgent, "a.example.com")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, here := proxytest.Spec("web1", "*.example.com"), proxytest.Spec("web1", "*.example.com")
	elsewhere.Grants[0].Networks, here.Grants[0].Networks = []string{"192.0.2.0/24"}, []string{"127.0.0.0/8"}
	p.Apply(t, admin.ApplyRequest{Clients: []admin.ClientSpec{elsewhere}})
	one, _ := p.WithKey(t, host.Dir)
	row := api.PathCertificates + "/" + k.ID
	revocation := proofOf(t, proxytest.OnDisk(t, k.Out), cert.KeyCompromise)
	for what, r := range map[string]proxytest.Reply{
		"delete":            one.Do(t, http.MethodDelete, row, nil),
		"revoke and delete": one.Do(t, http.MethodDelete, row+"?revoke=true", nil),
		"revoke":            one.Do(t, http.MethodPost, api.PathRevoke, revocation),
	} {
		if p := r.Problem(t); r.Status != http.StatusForbidden {
			t.Errorf("%s: %d %s", what, r.Status, p.Detail)
		}
	}
	_, err = host.Rekey(t.Context(), "")
	proxytest.WantStatus(t, "another key", err, http.StatusForbidden)
	for action, want := range map[string]int{"certificate": 1, "revoke": 2, "client key": 1} {
		if n := p.Audited(t, "web1", action, "refused"); n != want {
			t.Errorf("%d refusals of %s in the audit trail, want %d", n, action, want)
		}
	}
	p.WantRevoked(t, proxytest.OnDisk(t, k.Out), false, "")
	if r := one.Do(t, http.MethodGet, row+"/bundle", nil); r.Status != http.StatusOK {
		t.Errorf("the bundle: %d %s", r.Status, r.Body)
	}
	p.Apply(t, admin.ApplyRequest{Clients: []admin.ClientSpec{here}})
	if _, err := host.Rekey(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	one, _ = p.WithKey(t, host.Dir)
	one.Revoke(t, revocation)
	if r := one.Do(t, http.MethodDelete, row, nil); r.Status != http.StatusNoContent {
		t.Errorf("delete: %d %s", r.Status, r.Body)
	}
}

// A client whose grants are used up for today, or are for few requests at a
// time, revokes no more than it may obtain.
func TestRevokeTakesQuota(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	id, recipient := proxytest.NewIdentity(t)
	grant := proxytest.Grant(clients.ModeGateway, "*.example.com")
	grant.DailyQuota = 2
	c := p.NewCaller(t, "web1", []string{recipient}, grant)
	var bundles []*cert.Bundle
	for _, name := range []string{"a.example.com"} {
		events := c.Gateway(t, api.CertificateRequest{Names: []string{name}})
		bundles = append(bundles, proxytest.OpenBundle(t, events[len(events)-1].Bundle, proxytest.Names(t, name), id))
	}
	c.Revoke(t, proofOf(t, bundles[0], cert.Unspecified))
	if r := c.Do(t, http.MethodPost, api.PathRevoke, proofOf(t, bundles[0], cert.Unspecified)); r.Status != http.StatusTooManyRequests || r.Header.Get("Retry-After") == "" {
		t.Errorf("beyond the quota: %d %s", r.Status, r.Body)
	}
}

// Revoking what went through the gateway leaves no trace, a refusal only the
// names that are not granted (A14).
func TestRevokeGatewayKeepsNothing(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	id, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "script", []string{recipient}, proxytest.Grant(clients.ModeGateway, "**.corp.example.com"))
	events := c.Gateway(t, api.CertificateRequest{Names: []string{"payroll.corp.example.com"}})
	b := proxytest.OpenBundle(t, events[len(events)-1].Bundle, proxytest.Names(t, "payroll.corp.example.com"), id)
	bad := proofOf(t, b, cert.KeyCompromise)
	bad.Reason = "superseded"
	if r := c.Do(t, http.MethodPost, api.PathRevoke, bad); r.Status != http.StatusForbidden {
		t.Errorf("another reason: %d", r.Status)
	}
	if done := c.Revoke(t, proofOf(t, b, cert.KeyCompromise)); done.NextAttempt != nil || done.Serial != b.Serial() {
		t.Errorf("%+v", done)
	}
	p.WantRevoked(t, b, true, cert.KeyCompromise)
	secrets := proxytest.Traces{}
	secrets.Add("name", "payroll")
	secrets.Certificate(t, "revoked", b)
	for _, when := range []string{"running", "stopped"} {
		if when == "stopped" {
			p.Stop(t)
		}
		for _, found := range secrets.In(p.Everything(t)) {
			t.Errorf("%s: %s", when, found)
		}
	}
}

// Nonsense is refused by name, before anything is asked.
func TestRevokeBadInput(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	c, _, b := p.Managed(t, "web1", "a.example.com")
	good := proofOf(t, b, cert.Unspecified)
	for name, tc := range map[string]struct {
		change func(*api.RevokeRequest)
		field  string
	}{
		"no certificate":    {func(r *api.RevokeRequest) { r.Certificate = "x" }, "certificate"},
		"a damaged one":     {func(r *api.RevokeRequest) { r.Certificate = strings.Replace(r.Certificate, "MII", "AAA", 1) }, "certificate"},
		"a CA's":            {func(r *api.RevokeRequest) { r.Certificate = string(b.ChainPEM()) }, "certificate"},
		"an unknown reason": {func(r *api.RevokeRequest) { r.Reason = "stolen" }, "reason"},
		"no base64":         {func(r *api.RevokeRequest) { r.Proof = "!" }, "proof"},
		"a huge proof":      {func(r *api.RevokeRequest) { r.Proof = strings.Repeat("A", 1401) }, "proof"},
	} {
		req := good
		tc.change(&req)
		r := c.Do(t, http.MethodPost, api.PathRevoke, req)
		if r.Status != http.StatusUnprocessableEntity || !strings.Contains(string(r.Body), tc.field) {
			t.Errorf("%s: %d %s", name, r.Status, r.Body)
		}
	}
	if n := p.CA.Requests().Count(pebbletest.RevokeCert); n != 0 {
		t.Errorf("the CA was asked %d times", n)
	}
}

// The administrator revokes all of a client's certificates before it removes
// the client; what cannot be revoked stays, and the client is locked out.
func TestRevokeClient(t *testing.T) {
	t.Parallel()
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	c, _, one := p.Managed(t, "web1", "a.example.com")
	c.Bundle(t, c.Register(t, "b.example.com").ID, "")
	ca.Fail(http.StatusServiceUnavailable, pebbletest.RevokeCert)
	var seen []admin.Revoked
	note := func(r admin.Revoked) { seen = append(seen, r) }
	if err := p.Admin.RevokeClient(t.Context(), "web1", "superseded", note); err != nil || len(seen) != 1 || seen[0].Error == "" {
		t.Errorf("the CA is down: %+v, %v", seen, err)
	}
	if r := c.Do(t, http.MethodGet, api.PathCertificates, nil); r.Status != http.StatusUnauthorized {
		t.Errorf("not locked out: %d", r.Status)
	}
	ca.PassAll()
	seen = nil
	if err := p.Admin.RevokeClient(t.Context(), "web1", "superseded", note); err != nil || len(seen) != 2 || seen[0].Error+seen[1].Error != "" {
		t.Errorf("%+v, %v", seen, err)
	}
	p.WantRevoked(t, one, true, cert.Superseded)
	if cl, err := p.Admin.Client(t.Context(), "web1"); err != nil || len(cl.Certificates) != 0 || !cl.Disabled {
		t.Errorf("%+v, %v", cl, err)
	}
	if err := p.Admin.RevokeClient(t.Context(), "nobody", "", note); err == nil {
		t.Error("revoked for an unknown client")
	}
}
