package proxy_test

import (
	"bytes"
	"encoding/pem"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// The proxy renews while the client is away; the old bundle is served until the
// new one is there; the client that comes back, or waits, gets the new one, and
// 304 for what it has (A6, A10, A12, A13).
func TestAgentRenews(t *testing.T) {
	t.Parallel()
	var clk clock
	var ca fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.on(), Pebble: pebbletest.Options{Wrap: ca.wrap}})
	id, recipient := newIdentity(t)
	c := newCaller(t, p, "web1", []string{recipient}, proxytest.Grant(api.ModeAgent, "*.example.com"))
	want := names(t, "a.example.com", "b.example.com")
	m := c.register(t, "B.example.com", "a.example.com", "a.example.com")
	if m.Status != api.StatusPending {
		t.Errorf("status %q before there is a certificate", m.Status)
	}
	first := c.bundle(t, m.ID, "")
	old := open(t, first.body, want, id)
	path := api.PathCertificates + "/" + m.ID + "/bundle"
	if r := c.do(t, http.MethodGet, path, nil, "If-None-Match", first.etag()); r.status != http.StatusNotModified || len(r.body) != 0 {
		t.Errorf("with the ETag: %d %q, want 304", r.status, r.body)
	}

	arrived, release := ca.hold(t, pebbletest.Finalize)
	clk.advance(61 * 24 * time.Hour)
	p.Renewals.Wake()
	await(t, "the renewal has begun", arrived)
	if r := c.do(t, http.MethodGet, path, nil); r.status != http.StatusOK || r.etag() != first.etag() || !bytes.Equal(r.body, first.body) {
		t.Errorf("while the renewal is under way: %d with ETag %s, want the old bundle", r.status, r.etag())
	}
	waiting := make(chan reply, 1)
	go func() {
		r, err := c.try(t, http.MethodGet, path+"?wait=60s", nil, "If-None-Match", first.etag())
		if err != nil {
			t.Error(err)
		}
		waiting <- r
	}()
	release()
	second := <-waiting
	if second.status != http.StatusOK || second.etag() == first.etag() {
		t.Fatalf("the long poll ended with %d, ETag %s", second.status, second.etag())
	}
	renewed := open(t, second.body, want, id)
	if renewed.Serial() == old.Serial() || cert.SameKey(renewed.Key.Public(), old.Key.Public()) {
		t.Error("the renewal brought the old serial or key")
	}
	tick(t, p)
	if m = c.certificate(t, m.ID); m.Serial != renewed.Serial() || m.Status != api.StatusValid || m.Failures != 0 {
		t.Errorf("after the renewal: %+v", m)
	}
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 2 {
		t.Errorf("%d orders for a certificate and its renewal", n)
	}
}

// A renewal that fails leaves the old bundle and tells why, at once to who waits;
// it is tried again (A6, A13).
func TestAgentRenewalFails(t *testing.T) {
	t.Parallel()
	var clk clock
	var ca fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.on(), Pebble: pebbletest.Options{Wrap: ca.wrap}})
	_, recipient := newIdentity(t)
	c := newCaller(t, p, "web1", []string{recipient}, proxytest.Grant(api.ModeAgent, "*.example.com"))
	m := c.register(t, "a.example.com")
	first := c.bundle(t, m.ID, "")
	ca.fail(http.StatusServiceUnavailable)
	clk.advance(61 * 24 * time.Hour)
	told, began := make(chan reply, 1), time.Now()
	go func() {
		r, err := c.try(t, http.MethodGet, api.PathCertificates+"/"+m.ID+"/bundle?wait=60s", nil, "If-None-Match", first.etag())
		if err != nil {
			t.Error(err)
		}
		told <- r
	}()
	for answered := false; !answered; { // the long poll may begin after an attempt
		tick(t, p)
		select {
		case r := <-told:
			if answered = true; r.status != http.StatusNotModified || time.Since(began) > 45*time.Second {
				t.Errorf("the long poll ended with %d after %v", r.status, time.Since(began))
			}
		default:
			clk.advance(time.Hour)
		}
	}
	m = c.certificate(t, m.ID)
	if m.Failures == 0 || m.Status != api.StatusFailing || m.LastError == "" || m.NextAttempt == nil {
		t.Errorf("a failed renewal: %+v", m)
	}
	if r := c.bundle(t, m.ID, ""); r.etag() != first.etag() {
		t.Error("the old bundle is gone")
	}
	ca.mend()
	clk.advance(24 * time.Hour)
	tick(t, p)
	if r := c.bundle(t, m.ID, first.etag()); r.etag() == first.etag() {
		t.Error("no new bundle")
	}
	if m = c.certificate(t, m.ID); m.Failures != 0 || m.LastError != "" {
		t.Errorf("after the recovery: %+v", m)
	}
}

// To register again costs nothing (A25); another key type is another order; a
// name has one owner (A24).
func TestAgentRegistersAgain(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	id, recipient := newIdentity(t)
	web1 := newCaller(t, p, "web1", []string{recipient}, proxytest.Grant(api.ModeAgent, "*.example.com"))
	m := web1.register(t, "a.example.com", "b.example.com")
	first := web1.bundle(t, m.ID, "")
	for range 3 {
		if again := web1.register(t, "b.example.com", "A.EXAMPLE.COM"); again.ID != m.ID {
			t.Errorf("registered again as %s, was %s", again.ID, m.ID)
		}
	}
	tick(t, p)
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	asked, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "web1", Outcome: "allowed"})
	if err != nil || len(asked.Entries) != 1 {
		t.Errorf("audit: %+v, %v; want the first request only", asked.Entries, err)
	}

	web2 := newCaller(t, p, "web2", []string{recipient}, proxytest.Grant(api.ModeAgent, "*.example.com"))
	r := web2.do(t, http.MethodPost, api.PathCertificates, api.CertificateRequest{Mode: api.ModeAgent, Names: []string{"c.example.com", "b.example.com"}})
	if r.status != http.StatusConflict {
		t.Errorf("another owner: %d %s, want 409", r.status, r.body)
	}
	if detail := r.problem(t).Detail; strings.Contains(detail, "web1") {
		t.Errorf("%q tells whose the name is", detail)
	}
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "web2", Outcome: "refused"})
	if err != nil || len(page.Entries) != 1 {
		t.Errorf("audit: %+v, %v; want the one refusal", page.Entries, err)
	}

	changed := web1.registered(t, api.CertificateRequest{Mode: api.ModeAgent, Names: m.Names, KeyType: "ec384"})
	if changed.ID != m.ID {
		t.Error("another key type made another certificate")
	}
	b := open(t, web1.bundle(t, m.ID, first.etag()).body, names(t, m.Names...), id)
	if kt, err := cert.KeyTypeOf(b.Leaf.PublicKey); err != nil || kt != cert.EC384 {
		t.Errorf("key type %s, %v", kt, err)
	}

	if r := web1.do(t, http.MethodDelete, api.PathCertificates+"/"+m.ID, nil); r.status != http.StatusNoContent {
		t.Fatalf("delete: %d %s", r.status, r.body)
	}
	if got := web2.register(t, "c.example.com", "b.example.com"); got.ID == m.ID {
		t.Error("the old certificate came back")
	}
}

// Nobody reads, renews or deletes another's certificate, and each attempt is
// audited (A26, X14).
func TestAgentOwnersOnly(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	_, recipient := newIdentity(t)
	web1 := newCaller(t, p, "web1", []string{recipient}, proxytest.Grant(api.ModeAgent, "*.example.com"))
	web2 := newCaller(t, p, "web2", []string{recipient}, proxytest.Grant(api.ModeAgent, "*.example.com"))
	m := web1.register(t, "a.example.com")
	etag := web1.bundle(t, m.ID, "").etag()
	before := p.CA.Requests().Total()
	path := api.PathCertificates + "/" + m.ID
	calls := []struct{ method, path string }{
		{http.MethodGet, path},
		{http.MethodGet, path + "/bundle"},
		{http.MethodGet, path + "/bundle?wait=60s"},
		{http.MethodPost, path + "/renew"},
		{http.MethodDelete, path},
	}
	for _, call := range calls {
		r := web2.do(t, call.method, call.path, nil, "If-None-Match", etag)
		if r.status != http.StatusForbidden {
			t.Errorf("%s %s: %d %s, want 403", call.method, call.path, r.status, r.body)
		}
		r.problem(t)
		if r := web2.do(t, call.method, strings.Replace(call.path, m.ID, "nosuchid", 1), nil); r.status != http.StatusNotFound {
			t.Errorf("%s of an unknown id: %d, want 404", call.method, r.status)
		}
	}
	if list := web2.do(t, http.MethodGet, api.PathCertificates, nil); bytes.Contains(list.body, []byte(m.ID)) {
		t.Errorf("the list of another client: %s", list.body)
	}
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "web2", Outcome: "refused"})
	if err != nil || len(page.Entries) != len(calls) {
		t.Errorf("%d refusals in the audit trail, %v; want %d", len(page.Entries), err, len(calls))
	}
	tick(t, p)
	if n := p.CA.Requests().Total() - before; n != 0 {
		t.Errorf("%d requests reached the CA", n)
	}
	if r := web1.bundle(t, m.ID, ""); r.etag() != etag {
		t.Error("the owner's bundle changed")
	}
}

// The owner may renew, but not so often that it uses up the CA's limits, and
// stop it all (X5).
func TestAgentRenewAndDelete(t *testing.T) {
	t.Parallel()
	var clk clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.on()})
	_, recipient := newIdentity(t)
	c := newCaller(t, p, "web1", []string{recipient}, proxytest.Grant(api.ModeAgent, "*.example.com"))
	m := c.register(t, "a.example.com")
	etag := c.bundle(t, m.ID, "").etag()
	path := api.PathCertificates + "/" + m.ID
	for range 3 {
		r := c.do(t, http.MethodPost, path+"/renew", nil)
		if seconds, err := strconv.Atoi(r.header.Get("Retry-After")); r.status != http.StatusTooManyRequests || err != nil || seconds < 3500 || seconds > 3601 {
			t.Errorf("renew at once: %d, Retry-After %q; want 429 for an hour", r.status, r.header.Get("Retry-After"))
		}
	}
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	clk.advance(time.Hour)
	if r := c.do(t, http.MethodPost, path+"/renew", nil); r.status != http.StatusAccepted {
		t.Fatalf("renew: %d %s", r.status, r.body)
	}
	etag = c.bundle(t, m.ID, etag).etag()

	gone := make(chan reply, 1)
	go func() {
		r, err := c.try(t, http.MethodGet, path+"/bundle?wait=60s", nil, "If-None-Match", etag)
		if err != nil {
			t.Error(err)
		}
		gone <- r
	}()
	if r := c.do(t, http.MethodDelete, path, nil); r.status != http.StatusNoContent {
		t.Fatalf("delete: %d %s", r.status, r.body)
	}
	if r := <-gone; r.status != http.StatusNotFound {
		t.Errorf("the long poll of a deleted certificate: %d, want 404", r.status)
	}
}

// A client that makes its own key registers a CSR and gets certificates for it,
// renewals included; the bundle has no key (A10, D12).
func TestAgentCSR(t *testing.T) {
	t.Parallel()
	var clk clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.on()})
	id, recipient := newIdentity(t)
	c := newCaller(t, p, "web1", []string{recipient}, proxytest.Grant(api.ModeAgent, "*.example.com"))
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	want := names(t, "a.example.com", "b.example.com")
	req := api.CertificateRequest{Mode: api.ModeAgent, CSR: csrPEM(t, key, want)}
	m := c.registered(t, req)
	first := c.bundle(t, m.ID, "")
	clk.advance(61 * 24 * time.Hour)
	tick(t, p)
	second := c.bundle(t, m.ID, first.etag())
	for _, r := range []reply{first, second} {
		if b := open(t, r.body, want, id); b.Key != nil || !cert.SameKey(b.Leaf.PublicKey, key.Public()) {
			t.Error("the bundle has a key, or is for another")
		}
	}
	orders := p.CA.Requests().Count(pebbletest.NewOrder)
	if again := c.registered(t, req); again.ID != m.ID {
		t.Error("registered twice")
	}
	tick(t, p)
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != orders {
		t.Errorf("the same CSR again cost %d orders", n-orders)
	}
}

// No file and no log line ever holds an agent's key: not while an order is
// under way, not when the proxy dies then, not after (A11). What the dead one
// began is finished by the next without another order (X7, A36).
func TestAgentKeyIsNeverPlain(t *testing.T) {
	t.Parallel()
	var clk clock
	var ca fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.on(), Pebble: pebbletest.Options{Wrap: ca.wrap}})
	id, recipient := newIdentity(t)
	c := newCaller(t, p, "web1", []string{recipient}, proxytest.Grant(api.ModeAgent, "*.example.com"))
	arrived, release := ca.hold(t, pebbletest.Finalize)
	m := c.register(t, "a.example.com")
	await(t, "the order is about to be finalized", arrived)
	// What a kill -9 would leave.
	died := everything(t, p)
	ca.fail(http.StatusServiceUnavailable, pebbletest.Finalize)
	release()
	proxytest.Until(t, "the attempt has failed", func() bool { return c.certificate(t, m.ID).Failures == 1 })
	p.Stop(t)
	stopped := everything(t, p)
	ca.mend()
	p.Restart(t)
	clk.advance(time.Minute)
	tick(t, p)
	b := open(t, c.bundle(t, m.ID, "").body, names(t, "a.example.com"), id)
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders, want that of before", n)
	}
	secrets := traces{}
	keyPEM, err := b.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	secrets.lines("key", keyPEM)
	block, _ := pem.Decode(keyPEM)
	secrets["key, DER"] = block.Bytes
	secrets["PEM header"] = []byte("PRIVATE KEY")
	running := everything(t, p)
	for when, files := range map[string]map[string][]byte{"died": died, "stopped": stopped, "running": running} {
		for _, found := range secrets.in(files) {
			t.Errorf("%s: %s", when, found)
		}
	}
	if found := (traces{"identifier": []byte(m.ID)}).in(died); len(found) == 0 {
		t.Error("the search finds nothing in what the dead proxy left")
	}
}

// A proxy whose clock runs hours ahead of the host's is waited for all the same:
// how long it takes is told in seconds (A17).
func TestGetUnderAnotherClock(t *testing.T) {
	t.Parallel()
	var clk clock
	var ca fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.on(), Pebble: pebbletest.Options{Wrap: ca.wrap}})
	host := p.Enroll(t, "web1", proxytest.Grant(api.ModeAgent, "*.example.com"))
	clk.advance(3 * time.Hour)
	_, release := ca.hold(t, pebbletest.NewOrder)
	g, err := host.Getter(func(e acme.Event) {
		if e.Stage == remote.Waiting { // the host has asked how far it is
			release()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Get(t.Context(), remote.Wanted{
		Names: names(t, "a.example.com"), Mode: api.ModeAgent, KeyType: cert.EC256, Out: filepath.Join(t.TempDir(), "out"),
	}); err != nil {
		t.Error(err)
	}
}
