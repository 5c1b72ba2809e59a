package acmeserver_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// quick makes finalize wait shortly only.
func quick(c *acmeserver.Config) { c.Limits.FinalizeWait = 50 * time.Millisecond }

// blocked makes the CA wait. release lets all calls go on.
func (w *world) blocked(t *testing.T) (release func()) {
	gate := make(chan struct{})
	w.ca.does(func(_ context.Context, r acmeserver.IssueRequest) (acmeserver.Issued, error) {
		<-gate
		return w.ca.sign(r)
	})
	release = sync.OnceFunc(func() {
		close(gate)
		w.ca.does(nil)
	})
	t.Cleanup(release)
	return release
}

// C15: each fault of a CSR, with the name that is at fault. The order stays as it is.
func TestConformCSR(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	extension := func(id string, value ...byte) x509.CertificateRequest {
		var oid asn1.ObjectIdentifier
		for part := range strings.SplitSeq(id, ".") {
			n := 0
			for _, digit := range part {
				n = n*10 + int(digit-'0')
			}
			oid = append(oid, n)
		}
		return x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: oid, Value: value}}}
	}
	usage := func(last byte) []byte { return []byte{6, 8, 0x2b, 6, 1, 5, 5, 7, 3, last} }
	clientAuth := append([]byte{0x30, 10}, usage(2)...)
	names := []string{"a.example.com", "b.example.com"}
	otherName, uri := pkix.Name{CommonName: "c.example.com"}, &url.URL{Scheme: "https", Host: "a.example.com"}
	conform(t, nil, func(t *testing.T, w *world) {
		c := w.register(t)
		o := c.order(names...)
		for name, test := range map[string]struct {
			req  x509.CertificateRequest
			key  crypto.Signer
			word string
		}{
			"a name too many":   {x509.CertificateRequest{DNSNames: append(names[:2:2], "c.example.com")}, nil, "c.example.com"},
			"a name too few":    {x509.CertificateRequest{DNSNames: names[:1]}, nil, "b.example.com"},
			"no name":           {x509.CertificateRequest{DNSNames: []string{}}, nil, ""},
			"another CN":        {x509.CertificateRequest{Subject: otherName}, nil, "c.example.com"},
			"mail":              {x509.CertificateRequest{EmailAddresses: []string{"a@example.com"}}, nil, "mail"},
			"URI":               {x509.CertificateRequest{URIs: []*url.URL{uri}}, nil, "URI"},
			"an address":        {x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}, nil, "192.0.2.1"},
			"short name":        {x509.CertificateRequest{DNSNames: append(names[:2:2], "a")}, nil, `"a"`},
			"CA":                {extension("2.5.29.19", 0x30, 3, 1, 1, 0xff), nil, "CA"},
			"must-staple":       {extension("1.3.6.1.5.5.7.1.24", 0x30, 3, 2, 1, 5), nil, ""},
			"clientAuth":        {extension("2.5.29.37", clientAuth...), nil, "extendedKeyUsage"},
			"user name":         {extension("2.5.29.17", 0x30, 12, 0xa0, 10, 6, 3, 0x2b, 6, 1, 0xa0, 3, 12, 1, 'a'), nil, ""},
			"the account":       {x509.CertificateRequest{}, c.key, "another key"},
			"a weak key":        {x509.CertificateRequest{}, weak, "1024"},
			"key of a kind":     {x509.CertificateRequest{}, ed, "key"},
			"unknown extension": {extension("1.2.3.4", 5, 0), nil, ""},
		} {
			t.Run(name, func(t *testing.T) {
				req, key := test.req, test.key
				if req.DNSNames == nil {
					req.DNSNames = names
				}
				if key == nil {
					key = rawacme.NewKey()
				}
				own := o.in(t)
				own.finalizeWith(makeCSR(t, key, &req)).refused(http.StatusBadRequest, acme.BadCSR, "csr", test.word)
				if own.again().Status != "ready" {
					t.Error("the order is not ready any more")
				}
			})
		}
		t.Run("form", func(t *testing.T) {
			own := o.in(t)
			good := o.csr(rawacme.NewKey())
			text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: good})
			own.finalizeWith(text).refused(http.StatusBadRequest, acme.BadCSR, "DER")
			own.finalizeWith([]byte("x")).refused(http.StatusBadRequest, acme.BadCSR)
			own.finalizeWith(append(bytes.Clone(good), 0)).refused(http.StatusBadRequest, acme.BadCSR)
			changed := bytes.Clone(good)
			changed[len(changed)-1] ^= 1
			own.finalizeWith(changed).refused(http.StatusBadRequest, acme.BadCSR)
			for _, payload := range []fields{{}, {"csr": ""}, {"csr": "%"}, {"csr": 7}, {"csr": nil}} {
				own.c.post(o.Finalize, payload).refused(http.StatusBadRequest, acme.Malformed, "csr")
			}
			if w.ca.called() > 0 {
				t.Error("the CA was asked")
			}
		})
		for name, req := range map[string]x509.CertificateRequest{
			"names are a set": {
				Subject:  pkix.Name{CommonName: names[1]},
				DNSNames: []string{names[1], names[0], names[1]},
			},
			"upper case": {DNSNames: []string{"A.EXAMPLE.com", "b.example.com"}},
		} {
			t.Run(name, func(t *testing.T) {
				own := c.in(t)
				own.order(names...).finalizeWith(makeCSR(t, rawacme.NewKey(), &req)).want(http.StatusOK)
			})
		}
		t.Run("CN only", func(t *testing.T) {
			own := c.in(t)
			req := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a.example.com"}}
			o := own.order("a.example.com")
			done := own.readOrder(o.finalizeWith(makeCSR(t, rawacme.NewKey(), req)).want(http.StatusOK), o.url)
			chain, _ := own.download(done.Certificate)
			if !slices.Equal(chain[0].DNSNames, []string{"a.example.com"}) {
				t.Errorf("names are %q", chain[0].DNSNames)
			}
		})
	})
}

// C7: finalize, whose answer is the order (RFC 8555, section 7.4).
func TestConformFinalize(t *testing.T) {
	conform(t, quick, func(t *testing.T, w *world) {
		t.Run("repeated", func(t *testing.T) { // FortiGate polls by it
			c := w.register(t)
			o := c.order("a.example.com")
			csr := o.csr(rawacme.NewKey())
			release := w.blocked(t)
			for range 3 {
				if now := c.readOrder(o.finalizeWith(csr).want(http.StatusOK), o.url); now.Status != "processing" {
					t.Errorf("order is %+v", now)
				}
			}
			other := o.csr(rawacme.NewKey())
			o.finalizeWith(other).refused(http.StatusForbidden, acme.OrderNotReady, "another CSR")
			release()
			done := o.await("valid")
			if now := c.readOrder(o.finalizeWith(csr).want(http.StatusOK), o.url); now.Certificate != done.Certificate {
				t.Errorf("order is %+v", now)
			}
			o.finalizeWith(other).refused(http.StatusForbidden, acme.OrderNotReady)
			c.download(done.Certificate)
			if n := w.ca.called(); n != 1 {
				t.Errorf("%d calls of the CA", n)
			}
		})
		t.Run("refused later", func(t *testing.T) {
			c := w.register(t)
			gate := make(chan struct{})
			release := sync.OnceFunc(func() { close(gate) })
			t.Cleanup(release)
			w.ca.does(func(context.Context, acmeserver.IssueRequest) (acmeserver.Issued, error) {
				<-gate
				return acmeserver.Issued{}, &acme.Problem{Type: acme.RateLimit, Detail: "until tomorrow"}
			})
			o := c.order("a.example.com")
			if now := c.readOrder(o.finalize(rawacme.NewKey()).want(http.StatusOK), o.url); now.Status != "processing" {
				t.Errorf("order is %+v", now)
			}
			release()
			if now := o.await("invalid"); now.Error.Type != acme.RateLimit || now.Error.Detail != "until tomorrow" {
				t.Errorf("error is %+v", now.Error)
			}
			w.ca.does(nil)
		})
		t.Run("another error is no refusal", func(t *testing.T) {
			c := w.register(t)
			w.ca.does(func(context.Context, acmeserver.IssueRequest) (acmeserver.Issued, error) {
				return acmeserver.Issued{}, errors.New("the secret cause")
			})
			o := c.order("a.example.com")
			r := o.finalize(rawacme.NewKey()).want(http.StatusOK)
			if now := c.readOrder(r, o.url); now.Status != "processing" || strings.Contains(string(r.body), "secret") {
				t.Errorf("order is %s", r.body)
			}
			w.ca.does(nil)
			o.await("valid")
		})
		t.Run("the client is gone", func(t *testing.T) {
			c := w.register(t)
			o := c.order("a.example.com")
			release := w.blocked(t)
			before := w.ca.called()
			body := c.sign(call{url: o.Finalize, payload: fields{"csr": rawacme.B64(o.csr(rawacme.NewKey()))}})
			ctx, cancel := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.Finalize, bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/jose+json")
			go func() {
				watch.Until(t, "the CA is asked", func() bool { return w.ca.called() > before })
				cancel()
			}()
			if res, err := w.http.Do(req); err == nil {
				res.Body.Close() // finalize was faster
			}
			release()
			o.await("valid")
		})
	})
}

// The reason of a refusal that comes soon is the answer of finalize, because many clients
// show no other one.
func TestConformRefused(t *testing.T) {
	conform(t, nil, func(t *testing.T, w *world) {
		c := w.register(t)
		id := acme.Identifier{Type: "dns", Value: "a.example.com"}
		w.ca.does(func(context.Context, acmeserver.IssueRequest) (acmeserver.Issued, error) {
			return acmeserver.Issued{}, &acme.Problem{Type: acme.RejectedIdentifier, Detail: "on a list", Identifier: &id}
		})
		o := c.order("a.example.com")
		key := rawacme.NewKey()
		csr := o.csr(key)
		p := o.finalizeWith(csr).refused(http.StatusBadRequest, acme.RejectedIdentifier, "on a list")
		if p.Identifier == nil || *p.Identifier != id {
			t.Errorf("problem is %+v", p)
		}
		if now := o.await("invalid"); now.Error.Type != p.Type || now.Error.Detail != p.Detail {
			t.Errorf("error is %+v", now.Error)
		}
		o.finalizeWith(csr).refused(http.StatusBadRequest, acme.RejectedIdentifier)
		// The order has ended, so nothing may tell the client to send the CSR again.
		for _, end := range []acme.Problem{
			{Type: acme.RateLimit},
			{Type: acme.RateLimit, Status: 429},
			{Type: acme.ServerInternal},
			{Type: acme.ServerInternal, Status: 503},
			{Type: acme.BadNonce, Status: 400},
		} {
			end.Detail = "of the CA"
			w.ca.does(func(context.Context, acmeserver.IssueRequest) (acmeserver.Issued, error) {
				return acmeserver.Issued{}, &end
			})
			r := c.order("a.example.com").finalize(key)
			if p := r.problem("of the CA"); p.Type == acme.BadNonce || p.Status >= 500 || p.Status == 429 {
				t.Errorf("problem is %+v", p)
			}
			if after := r.header.Get("Retry-After"); after != "" {
				t.Errorf("Retry-After is %q", after)
			}
		}
		w.ca.does(nil)
		c.order("a.example.com").issue(key)
	})
}

// unextended is a storage that extends no lease, as for an instance that hangs.
type unextended struct{ acmeserver.Storage }

func (unextended) ExtendOrder(context.Context, string, string, time.Time) error { return errDown }

// C14: an instance that hangs loses its orders to another one, which continues with the
// state that the issuer saved.
func TestConformContinue(t *testing.T) {
	conform(t, func(c *acmeserver.Config) {
		quick(c)
		c.Storage = unextended{c.Storage}
	}, func(t *testing.T, w *world) {
		c := w.register(t)
		gate := make(chan struct{})
		release := sync.OnceFunc(func() { close(gate) })
		t.Cleanup(release)
		states, saved := make(chan string, 10), make(chan struct{})
		w.ca.does(func(ctx context.Context, r acmeserver.IssueRequest) (acmeserver.Issued, error) {
			states <- string(r.Order.State)
			if r.Order.State != nil {
				return w.ca.sign(r)
			}
			if err := r.Save(ctx, []byte("ordered")); err != nil {
				return acmeserver.Issued{}, err
			}
			close(saved)
			<-gate
			return w.ca.sign(r)
		})
		o := c.order("a.example.com")
		if now := c.readOrder(o.finalize(rawacme.NewKey()).want(http.StatusOK), o.url); now.Status != "processing" {
			t.Errorf("order is %+v", now)
		}
		watch.Await(t, "the issuer has saved its state", saved)
		w.clock.Add(int64(2 * time.Minute)) // more than a lease
		w.cfg.Storage = w.cfg.Storage.(unextended).Storage
		w.start()
		done := o.await("valid")
		release() // the first one comes too late
		if first, second := <-states, <-states; first != "" || second != "ordered" {
			t.Errorf("states are %q and %q", first, second)
		}
		first, _ := c.download(done.Certificate)
		w.end()
		w.start()
		now := o.again()
		if second, _ := c.download(now.Certificate); !first[0].Equal(second[0]) {
			t.Error("the certificate was replaced")
		}
	})
}

// shared is a policy with one issuance at a time for each name set.
type shared struct{ acmeserver.Trusting }

func (shared) Order(_ context.Context, r acmeserver.OrderRequest) (acmeserver.Terms, error) {
	return acmeserver.Terms{Share: r.Identifiers[0].Value}, nil
}

// A CA that needs minutes has one order for each key, however often clients ask.
func TestConformShare(t *testing.T) {
	conform(t, func(c *acmeserver.Config) { quick(c); c.Policy = shared{} }, func(t *testing.T, w *world) {
		key, other := rawacme.NewKey(), rawacme.NewKey()
		release := w.blocked(t)
		var orders []*order
		for _, k := range []crypto.Signer{key, other, key, other} {
			c := w.register(t)
			o := c.order("a.example.com")
			if now := c.readOrder(o.finalize(k).want(http.StatusOK), o.url); now.Status != "processing" {
				t.Errorf("order is %+v", now)
			}
			orders = append(orders, o)
		}
		c := w.register(t)
		elsewhere := c.order("b.example.com") // does not wait
		elsewhere.finalize(rawacme.NewKey()).want(http.StatusOK)
		watch.Until(t, "the CA is asked for both", func() bool { return w.ca.called() == 2 })
		release()
		leafs := make([]*x509.Certificate, len(orders))
		for i, o := range orders {
			done := o.await("valid")
			chain, _ := o.c.download(done.Certificate)
			leafs[i] = chain[0]
		}
		if !leafs[0].Equal(leafs[2]) || !leafs[1].Equal(leafs[3]) || leafs[0].Equal(leafs[1]) {
			t.Error("orders with the same key have not the same certificate")
		}
		elsewhere.await("valid")
		if n := w.ca.called(); n != 3 {
			t.Errorf("%d calls of the CA", n)
		}
		// All of them were collected, so the next one is new.
		c.order("a.example.com").issue(key)
		if n := w.ca.called(); n != 4 {
			t.Errorf("%d calls of the CA", n)
		}
		// No client collected that one.
		chain, _ := c.download(c.order("a.example.com").issue(key).Certificate)
		if n := w.ca.called(); n != 4 || chain[0].Equal(leafs[0]) {
			t.Errorf("%d calls of the CA", n)
		}
	})
}
