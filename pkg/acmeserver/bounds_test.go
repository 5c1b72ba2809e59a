package acmeserver_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// A client that repeats an order with the same key, and never downloads the certificate,
// costs the CA nothing. So the number of its orders is limited, and none keeps its CSR.
func TestRepeatedOrdersAreLimited(t *testing.T) { // C13, X25
	change := func(c *acmeserver.Config) {
		withShares(c)
		c.Limits.Orders = 3
	}
	inLab(t, change, func(l *lab) {
		c := l.account(l.start())
		csr := rawacme.Fields{"csr": csrFor(l, rawacme.NewKey(), "a.example.com")}
		var all []orderDoc
		for range 4 { // the first one is issued on its own
			o := c.newOrder("a.example.com")
			c.send(o.Finalize, csr).want(http.StatusOK).order().is(l, acmeserver.StatusValid)
			all = append(all, o)
		}
		c.send(l.cfg.URL+"/new-order", rawacme.Fields{"identifiers": dns("a.example.com")}).
			refused(acme.RateLimit, http.StatusForbidden)
		if n := len(l.ca.called()); n != 1 {
			l.Errorf("%d issuances", n)
		}
		for i, o := range all {
			stored := l.stored(o)
			if stored.CSR != nil || stored.CSRHash == "" || stored.Joined != (i > 0) {
				l.Errorf("order %d: CSR of %d bytes, hash %q, joined %t", i, len(stored.CSR), stored.CSRHash, stored.Joined)
			}
			c.send(o.Finalize, csr).want(http.StatusOK).order().is(l, acmeserver.StatusValid)
			c.finalize(o, rawacme.NewKey()).refused(acme.OrderNotReady, http.StatusForbidden)
		}
		c.download(c.read(all[3]))
		l.wait(25 * time.Hour)
		c.newOrder("a.example.com")
	})
}

// An order that failed keeps no CSR, and answers a repeated finalize with its problem. The
// first version kept the CSR, and no hash.
func TestFailedOrderKeepsNoCSR(t *testing.T) { // C13
	inLab(t, nil, func(l *lab) {
		l.ca.does(func(context.Context, issueRequest) (issued, error) {
			return issued{}, &acme.Problem{Type: acme.RejectedIdentifier, Detail: "no"}
		})
		c := l.account(l.start())
		o := c.newOrder("a.example.com")
		csr := rawacme.Fields{"csr": csrFor(l, rawacme.NewKey(), "a.example.com")}
		c.send(o.Finalize, csr).refused(acme.RejectedIdentifier, http.StatusBadRequest)
		stored := l.stored(o)
		if stored.CSR != nil || stored.Addr.String() != "192.0.2.7" {
			l.Errorf("CSR of %d bytes, address %s", len(stored.CSR), stored.Addr)
		}
		c.send(o.Finalize, csr).refused(acme.RejectedIdentifier, http.StatusBadRequest)
		var err error
		if stored.CSR, err = base64.RawURLEncoding.DecodeString(csr["csr"].(string)); err != nil {
			l.Fatal(err)
		}
		stored.CSRHash = ""
		if err := l.cfg.Storage.UpdateOrder(l.Context(), stored); err != nil {
			l.Fatal(err)
		}
		c.send(o.Finalize, csr).refused(acme.RejectedIdentifier, http.StatusBadRequest)
		c.finalize(o, rawacme.NewKey()).refused(acme.OrderNotReady, http.StatusForbidden)
	})
}
