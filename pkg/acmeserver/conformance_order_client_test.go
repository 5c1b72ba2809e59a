package acmeserver_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// order is an order as its client sees it.
type order struct {
	c              *client
	url            string
	Status         string
	Expires        time.Time
	Identifiers    []acme.Identifier
	Authorizations []string
	Finalize       string
	Certificate    string
	Error          *acme.Problem
	Profile        string
	Replaces       string
	NotBefore      time.Time
	NotAfter       time.Time
}

type authorization struct {
	c          *client
	url        string
	Status     string
	Expires    time.Time
	Identifier acme.Identifier
	Wildcard   bool
	Challenges []challenge
}

type challenge struct {
	Type, URL, Token, Status string
	Validated                time.Time
	Error                    *acme.Problem
}

// orderOf returns the payload of newOrder.
func orderOf(names ...string) fields {
	var ids []acme.Identifier
	for _, name := range names {
		kind := "dns"
		if net.ParseIP(name) != nil {
			kind = "ip"
		}
		ids = append(ids, acme.Identifier{Type: kind, Value: name})
	}
	return fields{"identifiers": ids}
}

// order creates an order.
func (c *client) order(names ...string) *order { c.t.Helper(); return c.orderWith(orderOf(names...)) }

func (c *client) orderWith(payload fields) *order {
	c.t.Helper()
	r := c.post(c.w.dir.NewOrder, payload).want(http.StatusCreated)
	return c.readOrder(r, r.location())
}

// readOrder checks what holds for an order in each state, C7 (RFC 8555, section 7.1.3).
// The URL is in Location each time, because some clients poll that of finalize.
func (c *client) readOrder(r *response, url string) *order {
	c.t.Helper()
	o := &order{c: c, url: url}
	r.decode(o)
	var raw map[string]json.RawMessage
	r.decode(&raw)
	for _, name := range []string{"status", "expires", "identifiers", "authorizations", "finalize"} {
		if len(raw[name]) == 0 || string(raw[name]) == "null" {
			c.t.Errorf("%s: the order has no %s: %s", r.url, name, r.body)
		}
	}
	if r.header.Get("Location") != url {
		c.t.Errorf("%s: Location is %q, not %s", r.url, r.header.Get("Location"), url)
	}
	if (o.Certificate != "") != (o.Status == "valid") || (o.Error != nil) != (o.Status == "invalid") {
		c.t.Errorf("%s: %s", r.url, r.body)
	}
	wait := r.header.Get("Retry-After")
	if (wait != "") != (o.Status == "processing") {
		c.t.Errorf("%s: status is %s, but Retry-After is %q", r.url, o.Status, wait)
	}
	if seconds, err := strconv.Atoi(wait); wait != "" && (err != nil || seconds < 1 || seconds > 5) {
		c.t.Errorf("%s: Retry-After is %q", r.url, wait) // Caddy 2.6 cannot read a date
	}
	return o
}

// in returns the same order for a subtest.
func (o *order) in(t testing.TB) *order {
	same := *o
	same.c = o.c.in(t)
	return &same
}

// again reads the order.
func (o *order) again() *order {
	o.c.t.Helper()
	return o.c.readOrder(o.c.get(o.url).want(http.StatusOK), o.url)
}

// finalize sends the CSR of a key for all names of the order.
func (o *order) finalize(key crypto.Signer) *response {
	o.c.t.Helper()
	return o.finalizeWith(o.csr(key))
}

func (o *order) finalizeWith(csr []byte) *response {
	o.c.t.Helper()
	return o.c.post(o.Finalize, fields{"csr": rawacme.B64(csr)})
}

func (o *order) csr(key crypto.Signer) []byte {
	o.c.t.Helper()
	req := &x509.CertificateRequest{}
	for _, id := range o.Identifiers {
		if id.Type == "ip" {
			req.IPAddresses = append(req.IPAddresses, net.ParseIP(id.Value))
		} else {
			req.DNSNames = append(req.DNSNames, id.Value)
		}
	}
	return makeCSR(o.c.t, key, req)
}

func makeCSR(t testing.TB, key crypto.Signer, req *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, req, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// issue finalizes the order and waits until it is valid.
func (o *order) issue(key crypto.Signer) *order {
	o.c.t.Helper()
	done := o.c.readOrder(o.finalize(key).want(http.StatusOK), o.url)
	if done.Status == "processing" {
		return o.await("valid")
	}
	if done.Status != "valid" {
		o.c.t.Fatalf("the order is %s", done.Status)
	}
	return done
}

// await reads the order until it has a status.
func (o *order) await(status string) (now *order) {
	o.c.t.Helper()
	watch.Until(o.c.t, "the order is "+status, func() bool {
		now = o.again()
		if now.Status != status && (now.Status == "invalid" || now.Status == "valid") {
			o.c.t.Fatalf("the order is %s (%v), want %s", now.Status, now.Error, status)
		}
		return now.Status == status
	})
	return now
}

func (o *order) authz(n int) *authorization { o.c.t.Helper(); return o.c.authz(o.Authorizations[n]) }

// authz reads an authorization and checks what holds in each state (RFC 8555, section
// 7.1.4).
func (c *client) authz(url string) *authorization {
	c.t.Helper()
	r := c.get(url).want(http.StatusOK)
	a := &authorization{c: c, url: url}
	r.decode(a)
	if a.Status == "" || a.Expires.IsZero() || a.Identifier.Type == "" || len(a.Challenges) == 0 {
		c.t.Errorf("%s: %s", r.url, r.body)
	}
	for _, ch := range a.Challenges {
		if len(ch.Token) < 22 || ch.URL == "" || ch.Status == "" { // 128 bits, section 8.1
			c.t.Errorf("%s: %s", r.url, r.body)
		}
	}
	return a
}

func (a *authorization) challenge(kind string) challenge {
	a.c.t.Helper()
	for _, ch := range a.Challenges {
		if ch.Type == kind {
			return ch
		}
	}
	a.c.t.Fatalf("%s has no challenge %s: %+v", a.url, kind, a.Challenges)
	return challenge{}
}

// validate asks for the validation of a challenge.
func (a *authorization) validate(kind string) challenge {
	a.c.t.Helper()
	r := a.c.post(a.challenge(kind).URL, fields{}).want(http.StatusOK)
	if up := r.links("up"); len(up) != 1 || up[0] != a.url {
		a.c.t.Errorf("%s: the link up is %q, not %s", r.url, up, a.url)
	}
	var ch challenge
	r.decode(&ch)
	return ch
}

// download returns a chain, the leaf first, and the links to alternate ones. The PEM is
// strict, C17: FortiOS and Proxmox check its shape.
func (c *client) download(url string) (chain []*x509.Certificate, alternates []string) {
	c.t.Helper()
	r := c.get(url).want(http.StatusOK)
	if kind := r.header.Get("Content-Type"); kind != "application/pem-certificate-chain" {
		c.t.Errorf("Content-Type is %q", kind)
	}
	var again []byte
	for rest := r.body; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		chain = append(chain, parseCertificate(c.t, block.Bytes))
		again = append(again, pem.EncodeToMemory(block)...)
	}
	if len(chain) < 2 || !bytes.Equal(again, r.body) {
		c.t.Fatalf("the chain is no strict PEM of a leaf and its issuer: %q", r.body)
	}
	return chain, r.links("alternate")
}

// ariID returns the identifier of RFC 9773, section 4.1.
func ariID(c *x509.Certificate) string {
	serial := c.SerialNumber.Bytes()
	if serial[0] >= 0x80 {
		serial = append([]byte{0}, serial...)
	}
	return rawacme.B64(c.AuthorityKeyId) + "." + rawacme.B64(serial)
}

// keyAuthorization returns that of the client's key (RFC 8555, section 8.1).
func (c *client) keyAuthorization(token string) string {
	return token + "." + rawacme.Thumbprint(c.key.Public())
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}
