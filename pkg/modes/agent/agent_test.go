package agent_test

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
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// The proxy renews while the client is away, and serves the old bundle until then. A
// client that returns or waits gets the new one, and 304 for a bundle that it has
// (A6, A10, A12, A13).
func TestAgentRenews(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(), Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	id, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	want := proxytest.Names(t, "a.example.com", "b.example.com")
	m := c.Register(t, "B.example.com", "a.example.com", "a.example.com")
	if m.Status != api.StatusPending {
		t.Errorf("status %q before there is a certificate", m.Status)
	}
	first := c.Bundle(t, m.ID, "")
	old := proxytest.OpenBundle(t, first.Body, want, id)
	path := api.PathCertificates + "/" + m.ID + "/bundle"
	if r := c.Do(t, http.MethodGet, path, nil, "If-None-Match", first.ETag()); r.Status != http.StatusNotModified || len(r.Body) != 0 {
		t.Errorf("with the ETag: %d %q, want 304", r.Status, r.Body)
	}

	arrived, release := ca.Hold(t, pebbletest.Finalize)
	clk.Advance(61 * 24 * time.Hour)
	p.Renewals.Wake()
	watch.Await(t, "the renewal has begun", arrived)
	if r := c.Do(t, http.MethodGet, path, nil); r.Status != http.StatusOK || r.ETag() != first.ETag() || !bytes.Equal(r.Body, first.Body) {
		t.Errorf("while the renewal is under way: %d with ETag %s, want the old bundle", r.Status, r.ETag())
	}
	waiting := make(chan proxytest.Reply, 1)
	go func() {
		r, err := c.Try(t, http.MethodGet, path+"?wait=60s", nil, "If-None-Match", first.ETag())
		if err != nil {
			t.Error(err)
		}
		waiting <- r
	}()
	release()
	second := <-waiting
	if second.Status != http.StatusOK || second.ETag() == first.ETag() {
		t.Fatalf("the long poll ended with %d, ETag %s", second.Status, second.ETag())
	}
	renewed := proxytest.OpenBundle(t, second.Body, want, id)
	if renewed.Serial() == old.Serial() || cert.SameKey(renewed.Key.Public(), old.Key.Public()) {
		t.Error("the renewal brought the old serial or key")
	}
	p.Tick(t)
	if m = c.Certificate(t, m.ID); m.Serial != renewed.Serial() || m.Status != api.StatusValid || m.Failures != 0 {
		t.Errorf("after the renewal: %+v", m)
	}
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 2 {
		t.Errorf("%d orders for a certificate and its renewal", n)
	}
}

// A long poll that begins just after a failure is answered at once, because no news
// follows before the next attempt.
func TestLongPollAfterFailure(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) { c.HTTP01Hook = "true" }}) // which publishes nothing
	_, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	m := c.Register(t, "a.example.com")
	watch.Until(t, "the attempt has failed", func() bool { m = c.Certificate(t, m.ID); return m.Failures > 0 && !m.Attempting })
	began := time.Now()
	r := c.Do(t, http.MethodGet, api.PathCertificates+"/"+m.ID+"/bundle?wait=30s", nil)
	if took := time.Since(began); r.Status != http.StatusNotFound || took > 15*time.Second {
		t.Errorf("%d after %v, want 404 at once", r.Status, took)
	}
}

// A renewal that fails leaves the old bundle, reports the reason at once to waiting
// clients and is retried (A6, A13).
func TestAgentRenewalFails(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(), Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	_, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	m := c.Register(t, "a.example.com")
	first := c.Bundle(t, m.ID, "")
	ca.Fail(http.StatusServiceUnavailable)
	clk.Advance(61 * 24 * time.Hour)
	told, began := make(chan proxytest.Reply, 1), time.Now()
	go func() {
		r, err := c.Try(t, http.MethodGet, api.PathCertificates+"/"+m.ID+"/bundle?wait=60s", nil, "If-None-Match", first.ETag())
		if err != nil {
			t.Error(err)
		}
		told <- r
	}()
	for answered := false; !answered; { // the long poll may begin after an attempt
		p.Tick(t)
		select {
		case r := <-told:
			if answered = true; r.Status != http.StatusNotModified || time.Since(began) > 45*time.Second {
				t.Errorf("the long poll ended with %d after %v", r.Status, time.Since(began))
			}
		default:
			clk.Advance(time.Hour)
		}
	}
	m = c.Certificate(t, m.ID)
	if m.Failures == 0 || m.Status != api.StatusFailing || m.LastError == "" || m.NextAttempt == nil {
		t.Errorf("a failed renewal: %+v", m)
	}
	if r := c.Bundle(t, m.ID, ""); r.ETag() != first.ETag() {
		t.Error("the old bundle is gone")
	}
	ca.PassAll()
	clk.Advance(24 * time.Hour)
	p.Tick(t)
	if r := c.Bundle(t, m.ID, first.ETag()); r.ETag() == first.ETag() {
		t.Error("no new bundle")
	}
	if m = c.Certificate(t, m.ID); m.Failures != 0 || m.LastError != "" {
		t.Errorf("after the recovery: %+v", m)
	}
}

// Registering again costs nothing (A25). Another key type is another order. A name has
// one owner (A24).
func TestAgentRegistersAgain(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	id, recipient := proxytest.NewIdentity(t)
	web1 := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	m := web1.Register(t, "a.example.com", "b.example.com")
	first := web1.Bundle(t, m.ID, "")
	for range 3 {
		if again := web1.Register(t, "b.example.com", "A.EXAMPLE.COM"); again.ID != m.ID {
			t.Errorf("registered again as %s, was %s", again.ID, m.ID)
		}
	}
	p.Tick(t)
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	asked, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "web1", Outcome: "allowed"})
	if err != nil || len(asked.Entries) != 1 {
		t.Errorf("audit: %+v, %v; want the first request only", asked.Entries, err)
	}

	web2 := p.NewCaller(t, "web2", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	r := web2.Do(t, http.MethodPost, api.PathCertificates, api.CertificateRequest{Mode: clients.ModeAgent, Names: []string{"c.example.com", "b.example.com"}})
	if r.Status != http.StatusConflict {
		t.Errorf("another owner: %d %s, want 409", r.Status, r.Body)
	}
	if detail := r.Problem(t).Detail; strings.Contains(detail, "web1") {
		t.Errorf("%q tells whose the name is", detail)
	}
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "web2", Outcome: "refused"})
	if err != nil || len(page.Entries) != 1 {
		t.Errorf("audit: %+v, %v; want the one refusal", page.Entries, err)
	}

	changed := web1.Registered(t, api.CertificateRequest{Mode: clients.ModeAgent, Names: m.Names, KeyType: "ec384"})
	if changed.ID != m.ID {
		t.Error("another key type made another certificate")
	}
	b := proxytest.OpenBundle(t, web1.Bundle(t, m.ID, first.ETag()).Body, proxytest.Names(t, m.Names...), id)
	if kt, err := cert.KeyTypeOf(b.Leaf.PublicKey); err != nil || kt != cert.EC384 {
		t.Errorf("key type %s, %v", kt, err)
	}

	if r := web1.Do(t, http.MethodDelete, api.PathCertificates+"/"+m.ID, nil); r.Status != http.StatusNoContent {
		t.Fatalf("delete: %d %s", r.Status, r.Body)
	}
	if got := web2.Register(t, "c.example.com", "b.example.com"); got.ID == m.ID {
		t.Error("the old certificate came back")
	}
}

// No client can read, renew or delete another's certificate, and each attempt is
// audited (A26, X14).
func TestAgentOwnersOnly(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	_, recipient := proxytest.NewIdentity(t)
	web1 := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	web2 := p.NewCaller(t, "web2", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	m := web1.Register(t, "a.example.com")
	etag := web1.Bundle(t, m.ID, "").ETag()
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
		r := web2.Do(t, call.method, call.path, nil, "If-None-Match", etag)
		if r.Status != http.StatusForbidden {
			t.Errorf("%s %s: %d %s, want 403", call.method, call.path, r.Status, r.Body)
		}
		r.Problem(t)
		if r := web2.Do(t, call.method, strings.Replace(call.path, m.ID, "nosuchid", 1), nil); r.Status != http.StatusNotFound {
			t.Errorf("%s of an unknown id: %d, want 404", call.method, r.Status)
		}
	}
	if list := web2.Do(t, http.MethodGet, api.PathCertificates, nil); bytes.Contains(list.Body, []byte(m.ID)) {
		t.Errorf("the list of another client: %s", list.Body)
	}
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "web2", Outcome: "refused"})
	if err != nil || len(page.Entries) != len(calls) {
		t.Errorf("%d refusals in the audit trail, %v; want %d", len(page.Entries), err, len(calls))
	}
	p.Tick(t)
	if n := p.CA.Requests().Total() - before; n != 0 {
		t.Errorf("%d requests reached the CA", n)
	}
	if r := web1.Bundle(t, m.ID, ""); r.ETag() != etag {
		t.Error("the owner's bundle changed")
	}
}

// The owner may renew, but not so often that it uses up the CA's limits, and may
// delete the certificate (X5).
func TestAgentRenewAndDelete(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
	_, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	m := c.Register(t, "a.example.com")
	etag := c.Bundle(t, m.ID, "").ETag()
	path := api.PathCertificates + "/" + m.ID
	for range 3 {
		r := c.Do(t, http.MethodPost, path+"/renew", nil)
		if seconds, err := strconv.Atoi(r.Header.Get("Retry-After")); r.Status != http.StatusTooManyRequests || err != nil || seconds < 3500 || seconds > 3601 {
			t.Errorf("renew at once: %d, Retry-After %q; want 429 for an hour", r.Status, r.Header.Get("Retry-After"))
		}
	}
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	clk.Advance(time.Hour)
	if r := c.Do(t, http.MethodPost, path+"/renew", nil); r.Status != http.StatusAccepted {
		t.Fatalf("renew: %d %s", r.Status, r.Body)
	}
	etag = c.Bundle(t, m.ID, etag).ETag()

	gone := make(chan proxytest.Reply, 1)
	go func() {
		r, err := c.Try(t, http.MethodGet, path+"/bundle?wait=60s", nil, "If-None-Match", etag)
		if err != nil {
			t.Error(err)
		}
		gone <- r
	}()
	if r := c.Do(t, http.MethodDelete, path, nil); r.Status != http.StatusNoContent {
		t.Fatalf("delete: %d %s", r.Status, r.Body)
	}
	if r := <-gone; r.Status != http.StatusNotFound {
		t.Errorf("the long poll of a deleted certificate: %d, want 404", r.Status)
	}
}

// A client that generates the key registers a CSR and gets certificates for it,
// renewals included. The bundle has no key (A10, D12).
func TestAgentCSR(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
	id, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	want := proxytest.Names(t, "a.example.com", "b.example.com")
	req := api.CertificateRequest{Mode: clients.ModeAgent, CSR: proxytest.CSR(t, key, want)}
	m := c.Registered(t, req)
	first := c.Bundle(t, m.ID, "")
	clk.Advance(61 * 24 * time.Hour)
	p.Tick(t)
	second := c.Bundle(t, m.ID, first.ETag())
	for _, r := range []proxytest.Reply{first, second} {
		if b := proxytest.OpenBundle(t, r.Body, want, id); b.Key != nil || !cert.SameKey(b.Leaf.PublicKey, key.Public()) {
			t.Error("the bundle has a key, or is for another")
		}
	}
	orders := p.CA.Requests().Count(pebbletest.NewOrder)
	if again := c.Registered(t, req); again.ID != m.ID {
		t.Error("registered twice")
	}
	p.Tick(t)
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != orders {
		t.Errorf("the same CSR again cost %d orders", n-orders)
	}
}

// No file and no log line ever contains an agent's key: during an order, when the
// proxy dies then, or later (A11). The next process finishes the same order (X7, A36).
func TestAgentKeyIsNeverPlain(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(), Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	id, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	arrived, release := ca.Hold(t, pebbletest.Finalize)
	m := c.Register(t, "a.example.com")
	watch.Await(t, "the order is about to be finalized", arrived)
	// What a kill -9 would leave.
	died := p.Everything(t)
	ca.Fail(http.StatusServiceUnavailable, pebbletest.Finalize)
	release()
	watch.Until(t, "the attempt has failed", func() bool { return c.Certificate(t, m.ID).Failures == 1 })
	p.Stop(t)
	stopped := p.Everything(t)
	ca.PassAll()
	p.Restart(t)
	clk.Advance(time.Minute)
	p.Tick(t)
	b := proxytest.OpenBundle(t, c.Bundle(t, m.ID, "").Body, proxytest.Names(t, "a.example.com"), id)
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders, want that of before", n)
	}
	secrets := proxytest.Traces{}
	keyPEM, err := b.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	secrets.Lines("key", keyPEM)
	block, _ := pem.Decode(keyPEM)
	secrets["key, DER"] = block.Bytes
	secrets["PEM header"] = []byte("PRIVATE KEY")
	running := p.Everything(t)
	for when, files := range map[string]map[string][]byte{"died": died, "stopped": stopped, "running": running} {
		for _, found := range secrets.In(files) {
			t.Errorf("%s: %s", when, found)
		}
	}
	if found := (proxytest.Traces{"identifier": []byte(m.ID)}).In(died); len(found) == 0 {
		t.Error("the search finds nothing in what the dead proxy left")
	}
}

// A host waits correctly for a proxy whose clock is hours ahead, because the answer
// has the wait in seconds (A17).
func TestGetUnderAnotherClock(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(), Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "*.example.com"))
	clk.Advance(3 * time.Hour)
	_, release := ca.Hold(t, pebbletest.NewOrder)
	g, err := host.Getter(func(e acme.Event) {
		if e.Stage == remote.Waiting { // the host has asked for the state
			release()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Get(t.Context(), remote.Wanted{
		Names: proxytest.Names(t, "a.example.com"), Mode: clients.ModeAgent, KeyType: cert.EC256, Out: filepath.Join(t.TempDir(), "out"),
	}); err != nil {
		t.Error(err)
	}
}
