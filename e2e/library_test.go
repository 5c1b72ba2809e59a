package e2e

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/internal/dnstest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/localca"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/sqlstore"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/validation"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// mode is how a library target admits accounts and authorizes orders.
type mode int

const (
	trusting   mode = iota // with external account binding; authorizations are valid at once
	challenged             // every account; http-01
)

// finalizeWait is so short that an order of www is still processing when finalize
// answers, because the CA takes longer.
const finalizeWait = 300 * time.Millisecond

// startLibrary returns the target of a server of package acmeserver. Each client has a
// server of its own, with SQLite and a local CA.
func startLibrary(m mode) func(*testing.T) func(*testing.T, kind) *site {
	return func(t *testing.T) func(*testing.T, kind) *site {
		resolver := dnstest.ServeUDP(t, dns.HandlerFunc(answerLoopback))
		return func(t *testing.T, k kind) *site {
			s := newSite(t, k, m == challenged)
			l := &library{T: t, kind: k, site: s}
			l.open()
			l.serve(m, resolver)
			return s
		}
	}
}

// answerLoopback answers every question for an address with 127.0.0.1.
func answerLoopback(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg).SetReply(r)
	if q := r.Question[0]; q.Qtype == dns.TypeA {
		head := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: q.Qclass}
		m.Answer = []dns.RR{&dns.A{Hdr: head, A: []byte{127, 0, 0, 1}}}
	}
	_ = w.WriteMsg(m)
}

// library is a running server of package acmeserver.
type library struct {
	*testing.T
	kind    kind
	site    *site
	ca      *localca.CA
	storage acmeserver.Storage
	wire    *wire
	rules   *rules
}

// open opens CA and storage.
func (l *library) open() {
	var err error
	l.ca, err = localca.Open(localca.Config{
		Dir: filepath.Join(l.site.dir, "ca"), URL: "http://127.0.0.1/ca", // not served
		Lifetime: lifetime,
	})
	if err != nil {
		l.Fatal(err)
	}
	db, err := sqldb.Open(l.Context(), sqldb.Config{
		Path: filepath.Join(l.site.dir, "acme.db"), Parts: []sqldb.Part{sqlstore.Part()},
	})
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() {
		if err := errors.Join(db.Close(), l.ca.Close()); err != nil {
			l.Error(err)
		}
	})
	l.storage = sqlstore.New(db)
	l.site.roots = x509.NewCertPool()
	l.site.roots.AppendCertsFromPEM(l.ca.Root())
	l.site.revoked = l.revoked
}

// serve starts two Servers that share the storage and take turns, so that a client never
// meets the one again that sent it its nonce.
func (l *library) serve(m mode, resolver string) {
	s := l.site
	l.wire = &wire{}
	front := httptest.NewUnstartedServer(l.wire)
	front.EnableHTTP2 = true
	front.StartTLS()
	l.Cleanup(front.Close)
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	s.setTrust(l.T, root)
	s.directory = front.URL + "/acme/directory"

	cfg := acmeserver.Config{
		URL: front.URL + "/acme", Storage: l.storage, Issuer: &testCA{l.ca}, Terms: "https://example.com/terms",
		Limits: acmeserver.Limits{FinalizeWait: finalizeWait},
	}
	l.rules = &rules{Policy: acmeserver.Trusting{}}
	s.refusals = []refusal{
		{"refused", "rejected by the rules; ask the administrator"},
		{"failing", "CAA of failing." + s.domain + " forbids it"},
	}
	if m == challenged {
		l.rules.Policy, l.rules.limited = acmeserver.Challenged{Types: []string{acme.HTTP01}}, true
		cfg.Validators = validation.All(validation.Network{
			Resolvers: []string{resolver}, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, HTTPPort: s.port,
		})
		s.refusals[0].detail = "too many certificates; try again after 2030-01-02"
	} else {
		key := make([]byte, 32)
		rand.Read(key)
		s.kid, s.hmac = "kid-1", base64.RawURLEncoding.EncodeToString(key)
		cfg.Accounts = &bound{kid: s.kid, key: key}
	}
	cfg.Policy = l.rules
	for range 2 {
		l.wire.servers = append(l.wire.servers, l.run(cfg))
	}
	s.check = l.check
}

// run starts one Server.
func (l *library) run(cfg acmeserver.Config) *acmeserver.Server {
	server, err := acmeserver.New(cfg)
	if err != nil {
		l.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { server.Run(ctx) })
	l.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return server
}

func (l *library) revoked(t *testing.T, serial *big.Int) bool {
	return inCRL(t, l.ca.CRL(), serial)
}

// check checks what the server saw.
func (l *library) check(t *testing.T) {
	l.wire.check(t)
	if replaced := l.rules.replaced.Load() > 0; replaced != l.kind.replaces {
		t.Errorf("the client says which certificate it replaces: %t", replaced)
	}
}

// testCA is the local CA, which takes long for some names and refuses others.
type testCA struct{ *localca.CA }

func (c *testCA) Issue(ctx context.Context, r acmeserver.IssueRequest) (acmeserver.Issued, error) {
	name := r.CSR.Names[0]
	if strings.HasPrefix(name, "failing.") {
		detail := fmt.Sprintf("CAA of %s forbids it", name)
		return acmeserver.Issued{}, &acme.Problem{Type: "urn:ietf:params:acme:error:caa", Detail: detail}
	}
	if slices.ContainsFunc(r.CSR.Names, func(n string) bool { return strings.HasPrefix(n, "www.") }) {
		select {
		case <-time.After(4 * finalizeWait):
		case <-ctx.Done():
			return acmeserver.Issued{}, ctx.Err()
		}
	}
	return c.CA.Issue(ctx, r)
}
