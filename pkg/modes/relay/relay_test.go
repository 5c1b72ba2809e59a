package relay_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	xacme "golang.org/x/crypto/acme"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

func start(t *testing.T, o proxytest.Options) *proxytest.Proxy {
	t.Helper()
	change := o.Change
	o.Change = func(cfg *proxy.Config) {
		proxytest.WithACME(cfg)
		if change != nil {
			change(cfg)
		}
	}
	return proxytest.Start(t, o)
}

func wantProblem(t *testing.T, what string, err error, kind string, texts ...string) *xacme.Error {
	t.Helper()
	var p *xacme.Error
	if !errors.As(err, &p) || p.ProblemType != kind {
		t.Fatalf("%s: %v, want %s", what, err, kind)
	}
	for _, text := range texts {
		if !strings.Contains(p.Detail, text) {
			t.Errorf("%s: %q has no %q", what, p.Detail, text)
		}
	}
	return p
}

func leaf(t *testing.T, chain [][]byte) *x509.Certificate {
	t.Helper()
	if len(chain) < 2 {
		t.Fatalf("a chain of %d certificates", len(chain))
	}
	c, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A stock client behind the firewall gets the CA's certificate without a challenge of its
// own: its authorizations are valid at once, nothing is ordered before finalize, and the
// CA validates in the DMZ (X1). The certificate is revoked by its key alone.
func TestRelay(t *testing.T) {
	t.Parallel()
	p := start(t, proxytest.Options{})
	a := p.NewACMEAccount(t, p.ACMECredential(t, "web1", proxytest.Grant(clients.ModeACME, "*.example.com")))
	names := []string{"b.example.com", "a.example.com"}
	o, err := a.Order(t.Context(), names...)
	if err != nil {
		t.Fatal(err)
	}
	if o.Status != xacme.StatusReady || p.Orders() != 0 {
		t.Errorf("order %s, %d at the CA", o.Status, p.Orders())
	}
	for _, url := range o.AuthzURLs {
		if z, err := a.GetAuthorization(t.Context(), url); err != nil || z.Status != xacme.StatusValid || len(z.Challenges) != 1 {
			t.Errorf("authorization %+v, %v", z, err)
		}
	}
	key := proxytest.NewKey(t)
	chain, err := a.Finalize(t.Context(), t, o, key, names...)
	if err != nil {
		t.Fatal(err)
	}
	c := leaf(t, chain)
	got, err := cert.LeafNames(c)
	if err != nil || !got.Equal(proxytest.Names(t, names...)) || !cert.SameKey(c.PublicKey, key.Public()) || p.Orders() != 1 {
		t.Errorf("certificate for %s, %v, %d orders", got, err, p.Orders())
	}
	for action, outcome := range map[string]string{"acme account": "allowed", "request": "allowed", "certificate": "done"} {
		watch.Until(t, action+" is audited", func() bool { return p.Audited(t, "web1", action, outcome) == 1 })
	}
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "web1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Entries {
		if (e.Action == "request" || e.Action == "certificate") && e.Addr != "127.0.0.1" {
			t.Errorf("%s from %q", e.Action, e.Addr)
		}
	}
	shown, err := p.Admin.Client(t.Context(), "web1")
	if err != nil || len(shown.Credentials) != 1 || shown.Credentials[0].LastUsed.IsZero() || shown.Credentials[0].LastFrom != "127.0.0.1" {
		t.Errorf("credentials %+v, %v", shown.Credentials, err)
	}
	if err := a.RevokeCert(t.Context(), key, chain[0], xacme.CRLReasonKeyCompromise); err != nil {
		t.Fatal(err)
	}
	if reason, revoked := p.CA.Revoked(c.SerialNumber); !revoked || reason != 1 {
		t.Errorf("revoked %v, reason %d", revoked, reason)
	}
	if n := p.Audited(t, "web1", "revoke", "done"); n != 1 {
		t.Errorf("%d revocations are audited", n)
	}
}

// What the grants do not cover is refused at newOrder, with the names and the remedy
// (X26). Nothing reaches the CA.
func TestRefusedAtNewOrder(t *testing.T) {
	t.Parallel()
	p := start(t, proxytest.Options{Pebble: pebbletest.Options{Profiles: map[string]time.Duration{"short": time.Hour, "default": time.Hour}}})
	g := proxytest.Grant(clients.ModeACME, "*.example.com", "wildcard:example.com")
	g.MaxNames, g.KeyTypes, g.Profiles = 2, []string{"ec256"}, []string{clients.ProfileDefault}
	a := p.NewACMEAccount(t, p.ACMECredential(t, "web1", g, proxytest.Grant(clients.ModeAgent, "agent.example.org")))
	for _, c := range []struct {
		kind, text string
		names      []string
	}{
		{acme.RejectedIdentifier, `b.example.org, c.example.org are not granted to client "web1"`, []string{"a.example.com", "b.example.org", "c.example.org"}},
		{acme.RejectedIdentifier, "at most 2 in one certificate, not 3", []string{"a.example.com", "b.example.com", "c.example.com"}},
		{acme.Unauthorized, `mode "acme" is not granted`, []string{"agent.example.org"}},
		{acme.RejectedIdentifier, "*.example.com needs a DNS-01 challenge", []string{"*.example.com", "a.example.com"}},
	} {
		_, err := a.Order(t.Context(), c.names...)
		problem := wantProblem(t, c.text, err, c.kind, c.text)
		if c.names[0] == "*.example.com" && (len(problem.Subproblems) != 1 || problem.Subproblems[0].Identifier.Value != "*.example.com") {
			t.Errorf("subproblems %+v", problem.Subproblems)
		}
	}
	o, err := a.Order(t.Context(), "a.example.com")
	if err != nil {
		t.Fatal(err)
	}
	key, err := cert.GenerateKey(cert.EC384)
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Finalize(t.Context(), t, o, key, "a.example.com")
	wantProblem(t, "another key type", err, acme.BadCSR, `key type "ec384" is not granted`)
	if p.Orders() != 0 {
		t.Errorf("%d orders at the CA", p.Orders())
	}
	if n := p.Audited(t, "web1", "request", "refused"); n != 4 {
		t.Errorf("%d refusals are audited", n)
	}
}

// Strangers, wrong networks, disabled clients, revoked and expired credentials get
// nothing, and the audit trail has them (X25).
func TestWhoMayUseTheDoor(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	p := start(t, proxytest.Options{Change: clk.On()})
	eab := p.ACMECredential(t, "web1", proxytest.Grant(clients.ModeACME, "*.example.com"))
	a := p.NewACMEAccount(t, eab)
	order := func(a *proxytest.ACMEAccount) error {
		_, err := a.Order(t.Context(), "a.example.com")
		return err
	}
	if err := order(a); err != nil {
		t.Fatal(err)
	}

	stranger := eab
	stranger.Kid, stranger.HMACKey = strings.Repeat("a", 26), eab.HMACKey
	_, err := p.TryACMEAccount(t, stranger, nil)
	wantProblem(t, "an unknown kid", err, acme.Unauthorized)
	stranger = eab
	stranger.HMACKey = strings.Repeat("A", 43)
	_, err = p.TryACMEAccount(t, stranger, nil)
	wantProblem(t, "a wrong HMAC key", err, acme.Unauthorized)
	_, err = p.TryACMEAccount(t, admin.ACMEAnswer{Directory: eab.Directory}, nil)
	wantProblem(t, "without a binding", err, acme.ExternalAccountNeeded)
	_, err = p.TryACMEAccount(t, admin.ACMEAnswer{Directory: "https://" + proxytest.ACMEName + "/acme/at/" + strings.Repeat("a", 26) + "/directory"}, nil)
	if err == nil || !strings.Contains(err.Error(), "ask the server's administrator for another one") {
		t.Errorf("an unknown entrance: %v", err)
	}

	secret := p.NewACME(t, "web1", admin.NewACME{Kind: clients.ACMEDirectory, Networks: []string{"127.0.0.0/8"}, ExpiresIn: admin.JSONDuration(time.Hour)})
	viaDirectory := p.NewACMEAccount(t, secret)
	if err := order(viaDirectory); err != nil {
		t.Errorf("by a secret directory: %v", err)
	}
	elsewhere := p.NewACME(t, "web1", admin.NewACME{Kind: clients.ACMEDirectory, Networks: []string{"192.0.2.0/24"}})
	_, err = p.TryACMEAccount(t, elsewhere, nil)
	wantProblem(t, "from elsewhere", err, acme.Unauthorized, "may not be used from 127.0.0.1")

	key := proxytest.NewKey(t)
	thumbprint, err := xacme.JWKThumbprint(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	byKey := admin.ACMEAnswer{Directory: "https://" + proxytest.ACMEName + "/acme/at/key/directory"}
	_, err = p.TryACMEAccount(t, byKey, key)
	wantProblem(t, "a key that is not registered", err, acme.Unauthorized, thumbprint)
	registered := p.NewACME(t, "web1", admin.NewACME{Kind: clients.ACMEKey, Thumbprint: thumbprint})
	viaKey, err := p.TryACMEAccount(t, registered, key)
	if err != nil {
		t.Fatal(err)
	}
	next := proxytest.NewKey(t)
	if err := viaKey.AccountKeyRollover(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if err := order(viaKey); err != nil {
		t.Errorf("after a key change: %v", err)
	}

	if _, err := p.Admin.SetDisabled(t.Context(), "web1", true); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, "disabled", order(a), acme.Unauthorized, `client "web1" is disabled`)
	if _, err := p.Admin.SetDisabled(t.Context(), "web1", false); err != nil {
		t.Fatal(err)
	}
	clk.Advance(2 * time.Hour)
	wantProblem(t, "expired", order(viaDirectory), acme.AccountDoesNotExist, "expired")
	if err := order(a); err != nil {
		t.Errorf("one that does not expire: %v", err)
	}
	if _, err := p.Admin.RevokeACME(t.Context(), "web1", eab.Credential.ID); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, "revoked", order(a), acme.AccountDoesNotExist, "was revoked", "register again")
	_, err = p.TryACMEAccount(t, eab, a.Key)
	wantProblem(t, "with the revoked credential", err, acme.Unauthorized, "unknown")
	// A new credential revives the account for its own client only.
	if _, err := p.TryACMEAccount(t, p.ACMECredential(t, "web2", proxytest.Grant(clients.ModeACME, "*.example.com")), a.Key); err == nil {
		t.Error("another client took an account over")
	}
	wantProblem(t, "still revoked", order(a), acme.AccountDoesNotExist)
	again, err := p.TryACMEAccount(t, p.NewACME(t, "web1", admin.NewACME{Kind: clients.ACMEBinding}), a.Key)
	if !errors.Is(err, xacme.ErrAccountAlreadyExists) {
		t.Errorf("with a new credential: %v", err)
	}
	if err := order(again); err != nil || again.KID != a.KID {
		t.Errorf("account %s, then %s: %v", a.KID, again.KID, err)
	}
	if err := order(viaKey); err != nil {
		t.Errorf("another credential: %v", err)
	}
	var details []string
	bindings := 0
	for _, e := range p.Refusals(t) {
		details = append(details, e.Detail)
		if e.Action == "acme account" && e.Client == "web1" && e.Addr == "127.0.0.1" && strings.HasPrefix(e.Detail, "externalAccountBinding: ") {
			bindings++
		}
	}
	if bindings != 1 {
		t.Errorf("%d refused bindings of the client are audited, want the one with the wrong HMAC key", bindings)
	}
	for _, want := range []string{
		"client is disabled", "credential is expired", "not from a network of the credential", "credential unknown or expired",
		"account key not registered: thumbprint " + thumbprint,
	} {
		if !slices.Contains(details, want) {
			t.Errorf("%q is not audited: %q", want, details)
		}
	}
}

// A grant that is removed after newOrder ends the order: at finalize, and while the CA is
// working (X26).
func TestGrantRemovedMeanwhile(t *testing.T) {
	t.Parallel()
	var ca pebbletest.Fault
	p := start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	a := p.NewACMEAccount(t, p.ACMECredential(t, "web1", proxytest.Grant(clients.ModeACME, "*.example.com")))
	apply := func(pattern string) {
		t.Helper()
		p.Apply(t, admin.ApplyRequest{Clients: []admin.ClientSpec{{Name: "web1", Grants: []clients.Grant{proxytest.Grant(clients.ModeACME, pattern)}}}})
	}
	o, err := a.Order(t.Context(), "a.example.com")
	if err != nil {
		t.Fatal(err)
	}
	apply("*.example.org")
	_, err = a.Finalize(t.Context(), t, o, proxytest.NewKey(t), "a.example.com")
	wantProblem(t, "at finalize", err, acme.RejectedIdentifier, `a.example.com is not granted to client "web1"`)
	apply("*.example.com")
	if o, err = a.Order(t.Context(), "b.example.com"); err != nil {
		t.Fatal(err)
	}
	arrived, release := ca.Hold(t, pebbletest.Finalize)
	done := make(chan error, 1)
	go func() {
		_, err := a.Finalize(t.Context(), t, o, proxytest.NewKey(t), "b.example.com")
		done <- err
	}()
	<-arrived
	apply("*.example.org")
	release()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "b.example.com is not granted") && !isInvalidOrder(err) {
		t.Errorf("while the CA was working: %v", err)
	}
}

// lostAnswers loses the answers to requests for certificates, and remembers the last URL.
type lostAnswers struct {
	http.RoundTripper
	url string
}

func (l *lostAnswers) RoundTrip(req *http.Request) (*http.Response, error) {
	if strings.Contains(req.URL.Path, "/certificate/") {
		l.url = req.URL.String()
		return nil, errors.New("lost")
	}
	return l.RoundTripper.RoundTrip(req)
}

// A certificate that no client has yet is handed out only while the grants cover it (X26).
func TestGrantRemovedBeforeCollection(t *testing.T) {
	t.Parallel()
	p := start(t, proxytest.Options{})
	grant := proxytest.Grant(clients.ModeACME, "*.example.com")
	grant.DailyQuota = 1 // a used up quota is no reason
	a := p.NewACMEAccount(t, p.ACMECredential(t, "web1", grant))
	apply := func(pattern string) {
		t.Helper()
		grant.Names = []string{pattern}
		p.Apply(t, admin.ApplyRequest{Clients: []admin.ClientSpec{{Name: "web1", Grants: []clients.Grant{grant}}}})
	}
	network := a.HTTPClient.Transport
	lost := &lostAnswers{RoundTripper: network}
	a.HTTPClient.Transport = lost
	if _, err := a.Obtain(t, "a.example.com"); err == nil || lost.url == "" {
		t.Fatal("no certificate was to be collected", err)
	}
	a.HTTPClient.Transport = network
	apply("*.example.org")
	_, err := a.FetchCert(t.Context(), lost.url, true)
	wantProblem(t, "without a grant", err, acme.RejectedIdentifier, `a.example.com is not granted to client "web1"`)
	apply("a.example.com")
	if _, err := a.FetchCert(t.Context(), lost.url, true); err != nil {
		t.Errorf("granted again: %v", err)
	}
	apply("*.example.org")
	if _, err := a.FetchCert(t.Context(), lost.url, true); err != nil {
		t.Errorf("it was collected already: %v", err)
	}
}

func isInvalidOrder(err error) bool {
	var o *xacme.OrderError
	return errors.As(err, &o) && o.Status == xacme.StatusInvalid
}

// refuseOrders makes the CA answer newOrder with a problem.
func refuseOrders(ca *pebbletest.Fault, status int, problem, retryAfter string) {
	ca.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if pebbletest.Kind(r) != pebbletest.NewOrder {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(status)
		w.Write([]byte(problem))
	})
}

// The CA's refusal reaches the client as the answer of finalize, with its type and text. A
// refusal is remembered, so that the next order is refused before the CA is asked.
func TestRefusedByTheCA(t *testing.T) {
	t.Parallel()
	var ca pebbletest.Fault
	p := start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	a := p.NewACMEAccount(t, p.ACMECredential(t, "web1", proxytest.Grant(clients.ModeACME, "*.example.com")))
	refuse := func(status int, problem, retryAfter string) { refuseOrders(&ca, status, problem, retryAfter) }
	refuse(http.StatusBadRequest, `{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"policy forbids issuing for a.example.com","subproblems":[{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"no","identifier":{"type":"dns","value":"a.example.com"}}]}`, "")
	_, err := a.Obtain(t, "a.example.com")
	problem := wantProblem(t, "refused", err, acme.RejectedIdentifier, "policy forbids issuing for a.example.com")
	if len(problem.Subproblems) != 1 || problem.Subproblems[0].Identifier.Value != "a.example.com" {
		t.Errorf("subproblems %+v", problem.Subproblems)
	}
	refuse(http.StatusForbidden, `{"type":"urn:ietf:params:acme:error:unauthorized","detail":"no\u001b[31m"}`, "")
	_, err = a.Obtain(t, "b.example.com")
	if p := wantProblem(t, "hostile", err, acme.Unauthorized); strings.Contains(p.Detail, "\x1b") {
		t.Errorf("detail %q", p.Detail)
	}
	refuse(http.StatusForbidden, `{"type":"urn:ietf:params:acme:error:userActionRequired","detail":"agree to our terms"}`, "")
	_, err = a.Obtain(t, "c.example.com")
	wantProblem(t, "about the proxy's account", err, acme.ServerInternal, "agree to our terms", "userActionRequired")
	refuse(http.StatusTooManyRequests, `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates for example.com"}`, "7200")
	_, err = a.Obtain(t, "d.example.com")
	wantProblem(t, "limited", err, acme.RateLimit, "too many certificates for example.com", "the CA asks to wait until ")
	before := p.CA.Requests().Total()
	_, err = a.Order(t.Context(), "d.example.com")
	wantProblem(t, "limited at newOrder", err, acme.RateLimit, "too many certificates")
	_, err = a.Order(t.Context(), "a.example.com")
	wantProblem(t, "refused a moment ago", err, acme.RejectedIdentifier, "policy forbids issuing", "asks the CA for these names again after ")
	_, err = a.Order(t.Context(), "c.example.com")
	if p := wantProblem(t, "about the proxy's account, a moment ago", err, acme.ServerInternal); p.StatusCode != http.StatusForbidden {
		t.Errorf("status %d", p.StatusCode)
	}
	if n := p.CA.Requests().Total() - before; n != 0 {
		t.Errorf("%d requests to the CA", n)
	}
	ca.PassAll()
	if _, err := a.Obtain(t, "other.example.com"); err != nil {
		t.Errorf("other names: %v", err)
	}
}

// A quota counts orders at the CA. One that came to no order there does not count (X20).
func TestQuota(t *testing.T) {
	t.Parallel()
	var ca pebbletest.Fault
	var clk proxytest.Clock
	clk.Noon()
	p := start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.Wrap}, Change: clk.On()})
	g := proxytest.Grant(clients.ModeACME, "*.example.com")
	g.DailyQuota = 2
	a := p.NewACMEAccount(t, p.ACMECredential(t, "web1", g))
	refuseOrders(&ca, http.StatusForbidden, `{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"no"}`, "")
	if _, err := a.Obtain(t, "a.example.com"); err == nil {
		t.Error("the CA refused, and the client got a certificate")
	}
	ca.PassAll()
	clk.Advance(time.Minute)
	for _, name := range []string{"a.example.com", "b.example.com"} {
		if _, err := a.Obtain(t, name); err != nil {
			t.Fatal(err)
		}
	}
	_, err := a.Order(t.Context(), "c.example.com")
	wantProblem(t, "the third", err, acme.RateLimit, "daily quota of 2 requests is used up")
	if p.Orders() != 3 {
		t.Errorf("%d orders", p.Orders())
	}
}

// The directory passes the CA's profiles and identities on, and the CA's window of
// renewal is that of the certificate (X3, X4).
func TestPassedThrough(t *testing.T) {
	t.Parallel()
	p := start(t, proxytest.Options{Pebble: pebbletest.Options{Profiles: map[string]time.Duration{"short": 6 * 24 * time.Hour}}})
	a := p.NewACMEAccount(t, p.ACMECredential(t, "web1", proxytest.Grant(clients.ModeACME, "*.example.com")))
	client := p.ACMEHTTP(t, nil)
	get := func(url string, to any) {
		t.Helper()
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(to); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d, %v", url, resp.StatusCode, err)
		}
	}
	var directory struct {
		RenewalInfo string
		Meta        struct {
			Profiles                map[string]string
			CAAIdentities           []string
			ExternalAccountRequired bool
		}
	}
	get(a.DirectoryURL, &directory)
	if _, ok := directory.Meta.Profiles["short"]; !ok || !directory.Meta.ExternalAccountRequired {
		t.Errorf("directory %+v", directory)
	}
	chain, err := a.Obtain(t, "a.example.com")
	if err != nil {
		t.Fatal(err)
	}
	id, err := acme.CertID(leaf(t, chain))
	if err != nil {
		t.Fatal(err)
	}
	var ours, theirs struct {
		Window struct{ Start, End time.Time } `json:"suggestedWindow"`
	}
	get(directory.RenewalInfo+"/"+id, &ours)
	upstream, err := p.CA.HTTPClient().Get(strings.TrimSuffix(p.CA.DirectoryURL, "/dir") + "/draft-ietf-acme-ari-03/renewalInfo/" + id)
	if err != nil {
		t.Fatal(err)
	}
	defer upstream.Body.Close()
	if err := json.NewDecoder(upstream.Body).Decode(&theirs); err != nil {
		t.Fatal(err)
	}
	if d := ours.Window.Start.Sub(theirs.Window.Start).Abs(); d > time.Minute || theirs.Window.Start.IsZero() {
		t.Errorf("window %+v, the CA's is %+v", ours, theirs)
	}
}

// A client can choose among the CA's chains (X1).
func TestAlternateChains(t *testing.T) {
	t.Parallel()
	p := start(t, proxytest.Options{Pebble: pebbletest.Options{AlternateRoots: 1}})
	a := p.NewACMEAccount(t, p.ACMECredential(t, "web1", proxytest.Grant(clients.ModeACME, "*.example.com")))
	o, err := a.Order(t.Context(), "a.example.com")
	if err != nil {
		t.Fatal(err)
	}
	csr, err := cert.NewCSR(proxytest.NewKey(t), proxytest.Names(t, "a.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	first, url, err := a.CreateOrderCert(t.Context(), o.FinalizeURL, csr, true)
	if err != nil {
		t.Fatal(err)
	}
	urls, err := a.ListCertAlternates(t.Context(), url)
	if err != nil || len(urls) != 1 {
		t.Fatalf("alternates %q, %v", urls, err)
	}
	second, err := a.FetchCert(t.Context(), urls[0], true)
	if err != nil {
		t.Fatal(err)
	}
	for i, chain := range [][][]byte{first, second} {
		top, err := x509.ParseCertificate(chain[len(chain)-1])
		if err != nil || top.Issuer.CommonName != p.CA.Issuers[i] || !bytes.Equal(chain[0], first[0]) {
			t.Errorf("chain %d ends at %q, %v", i, top.Issuer.CommonName, err)
		}
	}
}

// The ACME door accepts TLS 1.2, and the native API does not. Until the proxy has its own
// certificate of the CA, clients trust it by the file that the administrator gets.
func TestTLS(t *testing.T) {
	t.Parallel()
	p := start(t, proxytest.Options{})
	credential := p.ACMECredential(t, "web1", proxytest.Grant(clients.ModeACME, "*.example.com"))
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(credential.Certificate)) {
		t.Fatalf("no certificate: %+v", credential)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := p.ACMEHTTP(t, &tls.Config{RootCAs: roots, MaxVersion: version})
		want := map[string]int{"/acme/directory": http.StatusOK, "/acme": http.StatusOK, api.PathHealth: http.StatusOK, "/v1/client": http.StatusUnauthorized, "/acmeproxy": http.StatusNotFound}
		if version == tls.VersionTLS12 {
			want[api.PathHealth], want["/v1/client"], want["/acmeproxy"] = http.StatusUpgradeRequired, http.StatusUpgradeRequired, http.StatusUpgradeRequired
		}
		for path, status := range want {
			resp, err := client.Get("https://" + proxytest.ACMEName + path)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != status {
				t.Errorf("%s over %s: %d, want %d", path, tls.VersionName(version), resp.StatusCode, status)
			}
		}
	}
	_, err := p.ACMEHTTP(t, &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}).Get(credential.Directory)
	if err == nil {
		t.Error("a cipher suite without AEAD is accepted")
	}
	status, err := p.Admin.Status(t.Context())
	if err != nil || status.ACME == nil || !status.ACME.SelfSigned || status.ACME.Directory != credential.Directory {
		t.Errorf("status %+v, %v", status.ACME, err)
	}
	if !strings.Contains(p.Log(), "ACME clients cannot trust the directory yet") {
		t.Error("the log does not say that the directory is not trusted")
	}
}

// A reload with another public URL opens the door there. The accounts stay: a program
// that registers again gets its own.
func TestOtherURL(t *testing.T) {
	t.Parallel()
	var settings proxy.Config
	p := start(t, proxytest.Options{Change: func(cfg *proxy.Config) { settings = *cfg }})
	credential := p.ACMECredential(t, "web1", proxytest.Grant(clients.ModeACME, "*.example.com"))
	key := proxytest.NewKey(t)
	a, err := p.TryACMEAccount(t, credential, key)
	if err != nil {
		t.Fatal(err)
	}
	settings.PublicURL = "https://other.example.test:8443"
	if _, err := p.Replace(t.Context(), settings.Serve); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Order(t.Context(), "a.example.com"); err == nil {
		t.Error("a request for the earlier URL is accepted")
	}
	credential.Directory = settings.PublicURL + "/acme/directory"
	_, err = p.TryACMEAccount(t, credential, key)
	if !errors.Is(err, xacme.ErrAccountAlreadyExists) {
		t.Errorf("the same key again: %v", err)
	}
	if _, err := p.NewACMEAccount(t, credential).Obtain(t, "a.example.com"); err != nil {
		t.Error(err)
	}
	settings.PublicURL = ""
	if _, err := p.Replace(t.Context(), settings.Serve); err != nil {
		t.Fatal(err)
	}
	resp, err := p.ACMEHTTP(t, nil).Get(credential.Directory)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("without a URL: %d", resp.StatusCode)
	}
}
