package acmeserver_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// C17: RFC 8555, section 7.4.2.
func TestConformCertificate(t *testing.T) {
	conform(t, nil, func(t *testing.T, w *world) {
		c := w.register(t)
		key := rawacme.NewKey()
		o := c.order("a.example.com")
		// uacme and npm save five seconds if this is the finished order.
		if o = c.readOrder(o.finalize(key).want(http.StatusOK), o.url); o.Status != "valid" {
			t.Fatalf("order is %+v", o)
		}
		chain, others := c.download(o.Certificate)
		if len(chain) != 2 || !chain[1].Equal(w.ca.inter[0]) || !slices.Equal(chain[0].DNSNames, []string{"a.example.com"}) {
			t.Errorf("the chain has %d certificates, the first with %q", len(chain), chain[0].DNSNames)
		}
		if left := time.Until(o.Expires); left > 25*time.Hour { // UCM#74
			t.Errorf("the order expires like the certificate, in %v", left)
		}
		if len(others) != 1 {
			t.Fatalf("alternate links are %q", others)
		}
		other, back := c.download(others[0])
		if !other[0].Equal(chain[0]) || !other[1].Equal(w.ca.inter[1]) || !slices.Equal(back, []string{o.Certificate}) {
			t.Errorf("the alternate chain is another one, its links are %q", back)
		}
		for _, url := range []string{"/0", "/2", "/x", "/01", "/1/1", "x"} {
			c.get(o.Certificate+url).refused(http.StatusNotFound, acme.Malformed)
		}
		if again := o.again(); again.Certificate != o.Certificate {
			t.Errorf("order is %+v", again)
		}
	})
}

// mask is a Sealer that is good enough to see whether it is used.
type mask struct{}

func (mask) Seal(plain []byte) ([]byte, error) { return mask{}.Open(plain) }

func (mask) Open(sealed []byte) ([]byte, error) {
	out := bytes.Clone(sealed)
	for i := range out {
		out[i] ^= 0xa5
	}
	return out, nil
}

// C13: certificates are sealed at rest.
func TestConformSealed(t *testing.T) {
	conform(t, func(c *acmeserver.Config) { c.Sealer = mask{} }, func(t *testing.T, w *world) {
		c := w.register(t)
		o := c.order("a.example.com").issue(rawacme.NewKey())
		chain, _ := c.download(o.Certificate)
		stored, err := w.cfg.Storage.CertificateByID(t.Context(), strings.TrimPrefix(o.Certificate, w.url+"/certificate/"))
		if err != nil {
			t.Fatal(err)
		}
		if stored.Fingerprint != fingerprint(chain[0]) || len(stored.Chains) != 2 || !stored.Collected {
			t.Errorf("certificate is %+v", stored)
		}
		for _, sealed := range stored.Chains {
			if bytes.Contains(sealed, []byte("CERTIFICATE")) {
				t.Errorf("stored is %q", sealed)
			}
		}
	})
}

// C14: the issuer is replaced while the server runs.
func TestConformSetIssuer(t *testing.T) {
	conform(t, nil, func(t *testing.T, w *world) {
		c := w.register(t)
		c.order("a.example.com").issue(rawacme.NewKey())
		next := newTestCA(t)
		w.mu.Lock()
		for _, s := range w.servers {
			s.SetIssuer(next)
		}
		w.mu.Unlock()
		chain, _ := c.download(c.order("a.example.com").issue(rawacme.NewKey()).Certificate)
		if got := chain[0].Issuer.CommonName; got != next.name {
			t.Errorf("the issuer is %s, not %s", got, next.name)
		}
	})
}

// C18: RFC 8555, section 7.6.
func TestConformRevoke(t *testing.T) {
	validated(t, func(t *testing.T, w *world, _ *proofs) {
		key := rawacme.NewKey()
		issue := func(c *client, names ...string) (*x509.Certificate, *order) {
			c.t.Helper()
			o := authorized(c, names...)
			done := o.issue(key)
			chain, _ := c.download(done.Certificate)
			return chain[0], done
		}
		payload := func(c *x509.Certificate, more fields) fields {
			return rawacme.Changed(fields{"certificate": rawacme.B64(c.Raw)}, more)
		}
		t.Run("by its account", func(t *testing.T) {
			c := w.register(t)
			leaf, o := issue(c, "a.example.com")
			r := c.post(w.dir.RevokeCert, payload(leaf, fields{"reason": 4})).want(http.StatusOK)
			if len(r.body) > 0 {
				t.Errorf("body is %q", r.body)
			}
			all := w.ca.revocations()
			last := all[len(all)-1]
			state := "state of " + strings.TrimPrefix(o.url, w.url+"/order/")
			if !last.leaf.Equal(leaf) || last.reason != 4 || last.state != state {
				t.Errorf("revocation is %+v", last)
			}
			c.post(w.dir.RevokeCert, payload(leaf, nil)).refused(http.StatusBadRequest, acme.AlreadyRevoked)
			if n := len(w.ca.revocations()); n != len(all) {
				t.Errorf("%d revocations", n)
			}
			c.download(o.Certificate)
		})
		t.Run("by its key", func(t *testing.T) {
			c := w.register(t)
			leaf, _ := issue(c, "a.example.com")
			c.post(c.kid, fields{"status": "deactivated"}).want(http.StatusOK)
			c.post(w.dir.RevokeCert, payload(leaf, nil)).refused(http.StatusUnauthorized, acme.Unauthorized)
			c.kid = ""
			c.post(w.dir.RevokeCert, payload(leaf, nil)).refused(http.StatusForbidden, acme.Unauthorized, "key")
			c.key = key
			c.post(w.dir.RevokeCert, payload(leaf, nil)).want(http.StatusOK)
			c.post(w.dir.RevokeCert, payload(leaf, nil)).refused(http.StatusBadRequest, acme.AlreadyRevoked)
		})
		t.Run("by an account with its authorizations", func(t *testing.T) {
			leaf, _ := issue(w.register(t), "a.example.com", "*.b.example.com")
			c := w.register(t)
			for _, names := range [][]string{{"a.example.com"}, {"b.example.com"}} {
				authorized(c, names...)
				c.post(w.dir.RevokeCert, payload(leaf, nil)).refused(http.StatusForbidden, acme.Unauthorized)
			}
			o := authorized(c, "*.b.example.com")
			c.post(o.Authorizations[0], fields{"status": "deactivated"}).want(http.StatusOK)
			c.post(w.dir.RevokeCert, payload(leaf, nil)).refused(http.StatusForbidden, acme.Unauthorized)
			authorized(c, "*.b.example.com")
			c.post(w.dir.RevokeCert, payload(leaf, nil)).want(http.StatusOK)
		})
		t.Run("faults", func(t *testing.T) {
			c := w.register(t)
			leaf, _ := issue(c, "a.example.com")
			for _, reason := range []int{-1, 2, 6, 7, 8, 10, 11, 1 << 40} {
				c.post(w.dir.RevokeCert, payload(leaf, fields{"reason": reason})).
					refused(http.StatusBadRequest, acme.BadRevocationReason, "reason")
			}
			for _, bad := range []fields{
				{"reason": "x"},
				{"reason": 1.5},
				{"certificate": nil},
				{"certificate": ""},
				{"certificate": "%"},
				{"certificate": 7},
				{"certificate": rawacme.B64([]byte("x"))},
				{"certificate": rawacme.B64(append(bytes.Clone(leaf.Raw), 0))},
				{"certificate": rawacme.B64(chain(leaf.Raw))},
				{"certificate": strings.Repeat("A", 64<<10)},
			} {
				c.post(w.dir.RevokeCert, payload(leaf, bad)).refused(http.StatusBadRequest, acme.Malformed)
			}
			foreign := parseCertificate(t, create(t, leaf, w.ca.inter[0], key.Public(), w.ca.key)) // another signature
			c.post(w.dir.RevokeCert, payload(foreign, nil)).refused(http.StatusNotFound, acme.Malformed, "certificate's key")
		})
	})
}

// authorized returns a ready order with validated challenges.
func authorized(c *client, names ...string) *order {
	c.t.Helper()
	o := c.order(names...)
	for n := range o.Authorizations {
		o.authz(n).validate("dns-01")
	}
	return o.await("ready")
}

type renewal struct {
	SuggestedWindow struct{ Start, End time.Time }
	ExplanationURL  string
}

// RFC 9773, section 4.
func TestConformRenewalInfo(t *testing.T) {
	conform(t, nil, func(t *testing.T, w *world) {
		c := w.register(t)
		leaf, _ := c.download(c.order("a.example.com").issue(rawacme.NewKey()).Certificate)
		url := w.dir.RenewalInfo + "/" + ariID(leaf[0])
		read := func() (info renewal) {
			t.Helper()
			r := w.request(t, http.MethodGet, url).want(http.StatusOK).decode(&info)
			if after, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || after < 60 || after > 24*60*60 {
				t.Errorf("Retry-After is %q", r.header.Get("Retry-After"))
			}
			return info
		}
		w.ca.renews(func(c acmeserver.Certificate) (acmeserver.RenewalInfo, error) {
			if c.Fingerprint != fingerprint(leaf[0]) {
				t.Errorf("certificate is %+v", c)
			}
			start := c.NotAfter.Add(-30 * time.Hour)
			return acmeserver.RenewalInfo{Start: start, End: start.Add(time.Hour), Explanation: "https://example.com/why"}, nil
		})
		info := read()
		start := leaf[0].NotAfter.Add(-30 * time.Hour)
		if window := info.SuggestedWindow; !window.Start.Equal(start) || window.End.Sub(start) != time.Hour ||
			info.ExplanationURL != "https://example.com/why" {
			t.Errorf("renewal information is %+v", info)
		}
		w.ca.renews(func(acmeserver.Certificate) (acmeserver.RenewalInfo, error) {
			return acmeserver.RenewalInfo{}, errors.New("no answer")
		})
		if window := read().SuggestedWindow; window.Start.Before(leaf[0].NotBefore) ||
			!window.End.After(window.Start) || window.End.After(leaf[0].NotAfter) {
			t.Errorf("the window is %+v", window)
		}
		c.post(w.dir.RevokeCert, fields{"certificate": rawacme.B64(leaf[0].Raw)}).want(http.StatusOK)
		if window := read().SuggestedWindow; window.End.After(time.Now()) {
			t.Errorf("the window of a revoked certificate is %+v", window)
		}
		w.request(t, http.MethodGet, w.dir.RenewalInfo+"/AAAA.AAAA").refused(http.StatusNotFound, acme.Malformed)
		for _, id := range []string{"x", "AAAA.", "AAAA.!!", ariID(leaf[0]) + "="} {
			if r := w.request(t, http.MethodGet, w.dir.RenewalInfo+"/"+id); r.status != http.StatusNotFound {
				r.refused(http.StatusBadRequest, acme.Malformed)
			}
		}
		w.request(t, http.MethodPost, url).refused(http.StatusMethodNotAllowed, acme.Malformed)
	})
}

// RFC 9773, section 5. Clients loop for ever if a failed order keeps its claim.
func TestConformReplaces(t *testing.T) {
	validated(t, func(t *testing.T, w *world, p *proofs) {
		c, other := w.register(t), w.register(t)
		leaf, _ := c.download(authorized(c, "a.example.com").issue(rawacme.NewKey()).Certificate)
		replacing := func(name string) fields {
			return rawacme.Changed(orderOf(name), fields{"replaces": ariID(leaf[0])})
		}
		p.set("fails.example.com", &acme.Problem{Type: acme.DNS, Detail: "no answer"})
		failing := rawacme.Changed(orderOf("a.example.com", "fails.example.com"), fields{"replaces": ariID(leaf[0])})
		o := c.orderWith(failing)
		if o.Replaces != ariID(leaf[0]) {
			t.Errorf("order is %+v", o)
		}
		c.post(w.dir.NewOrder, replacing("a.example.com")).refused(http.StatusConflict, acme.AlreadyReplaced, "replaces")
		o.authz(1).validate("dns-01")
		o.await("invalid")
		o = c.orderWith(replacing("a.example.com"))
		o.authz(0).validate("dns-01")
		o.await("ready").issue(rawacme.NewKey())
		c.post(w.dir.NewOrder, replacing("a.example.com")).refused(http.StatusConflict, acme.AlreadyReplaced)
		// Clients do not repeat the order without the field if it names a certificate of
		// another account, CA or name.
		unknown := rawacme.Changed(orderOf("a.example.com"), fields{"replaces": "AAAA.AAAA"})
		for _, o := range []*order{c.orderWith(replacing("b.example.com")), other.orderWith(replacing("a.example.com")), c.orderWith(unknown)} {
			if o.Replaces != "" {
				t.Errorf("order is %+v", o)
			}
		}
	})
}

// C1: several servers in one process and one mux, under any path.
func TestMountedTwice(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	front := httptest.NewServer(mux)
	defer front.Close()
	var worlds []*world
	for _, base := range []string{"", "/acme", "/a/b%20c"} {
		w := &world{t: t, ca: newTestCA(t), url: front.URL + base, http: front.Client()}
		s, err := acmeserver.New(acmeserver.Config{
			URL: w.url, Storage: acmeserver.NewMemory(), Issuer: w.ca, Policy: acmeserver.Trusting{},
		})
		if err != nil {
			t.Fatal(err)
		}
		mux.Handle(base+"/", s)
		worlds = append(worlds, w)
	}
	for _, w := range worlds {
		for _, url := range []string{w.url + "/directory", w.url + "/"} {
			w.request(t, http.MethodGet, url).want(http.StatusOK).decode(&w.dir)
		}
		c := w.register(t)
		chain, _ := c.download(c.order("a.example.com").issue(rawacme.NewKey()).Certificate) // without Run
		if chain[0].Issuer.CommonName != w.ca.name {
			t.Errorf("%s: the issuer is %s", w.url, chain[0].Issuer.CommonName)
		}
		for _, other := range worlds {
			if other != w && other.dir.NewOrder != "" {
				fresh := fields{"nonce": other.client(t).takeNonce()}
				c.send(call{url: other.dir.NewOrder, payload: orderOf("a.example.com"), header: fresh}).
					refused(http.StatusBadRequest, acme.AccountDoesNotExist)
				c.nonce = w.client(t).takeNonce()
				c.post(other.dir.NewAccount, fields{}).refused(http.StatusBadRequest, acme.Malformed)
				stranger := other.client(t)
				stranger.nonce = w.client(t).takeNonce()
				stranger.post(other.dir.NewAccount, fields{}).refused(http.StatusBadRequest, acme.BadNonce)
			}
		}
	}
}

// An Issuer need not revoke.
func TestNoRevoker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmeserver.NewMemory(), func(c *acmeserver.Config) {
		ca := c.Issuer.(*testCA)
		c.Issuer = onlyIssuer{ca}
	})
	c := w.register(t)
	chain, _ := c.download(c.order("a.example.com").issue(rawacme.NewKey()).Certificate)
	c.post(w.dir.RevokeCert, fields{"certificate": rawacme.B64(chain[0].Raw)}).
		refused(http.StatusForbidden, acme.Unauthorized, "revokes no")
}

type onlyIssuer struct{ ca *testCA }

func (i onlyIssuer) Issue(ctx context.Context, r acmeserver.IssueRequest) (acmeserver.Issued, error) {
	return i.ca.Issue(ctx, r)
}
