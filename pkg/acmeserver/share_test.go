package acmeserver_test

import (
	"context"
	"crypto"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// sharing is a Policy whose orders with the same names are issued one after the other.
type sharing struct{ acmeserver.Trusting }

func (sharing) Order(_ context.Context, r acmeserver.OrderRequest) (acmeserver.Terms, error) {
	var names []string
	for _, id := range r.Identifiers {
		names = append(names, id.Value)
	}
	return acmeserver.Terms{Share: strings.Join(names, ",")}, nil
}

func withShares(c *acmeserver.Config) { c.Policy = sharing{} }

// A CA that needs ten minutes costs one issuance per key, however often the client asks.
func TestRetriesJoin(t *testing.T) { // X5
	inLab(t, withShares, func(l *lab) {
		l.ca.slow(10 * time.Minute)
		sites := []*site{l.start(), l.start()}
		c := l.account(sites[0])
		key := rawacme.NewKey()
		var all []orderDoc
		for i := range 8 {
			c.at = sites[i%2]
			all = append(all, c.newOrder("a.example.com"))
			c.finalize(all[i], key).want(http.StatusOK).order().is(l, acmeserver.StatusProcessing)
			l.wait(time.Minute)
		}
		l.wait(3 * time.Minute)
		leaf := c.download(c.read(all[7]).is(l, acmeserver.StatusValid))
		if records, err := l.cfg.Storage.CertificatesByFingerprint(l.Context(), fingerprint(leaf)); err != nil || len(records) != 1 {
			l.Errorf("%d records of the certificate, %v", len(records), err)
		}
		// The others get it, too, although one client has it already.
		for i, o := range all[:7] {
			c.at = sites[i%2]
			if got := c.download(c.read(o).is(l, acmeserver.StatusValid)); !got.Equal(leaf) {
				l.Errorf("order %d has another certificate", i)
			}
		}
		if n := len(l.ca.called()); n != 1 {
			l.Errorf("%d issuances", n)
		}
	})
}

// Orders with other keys wait for their turn. One at a time is issued.
func TestOtherKeysWait(t *testing.T) {
	inLab(t, withShares, func(l *lab) {
		l.ca.slow(time.Minute)
		c := l.account(l.start())
		keys := []crypto.Signer{rawacme.NewKey(), rawacme.NewKey(), rawacme.NewKey()}
		var all []orderDoc
		for _, key := range append(keys, keys...) {
			o := c.newOrder("a.example.com")
			c.finalize(o, key).want(http.StatusOK).order().is(l, acmeserver.StatusProcessing)
			all = append(all, o)
		}
		another := c.newOrder("b.example.com")
		c.finalize(another, keys[0]).want(http.StatusOK)
		l.wait(30 * time.Second)
		c.read(another).is(l, acmeserver.StatusProcessing)
		if n := len(l.ca.called()); n != 2 {
			l.Errorf("%d issuances at once, want one for each share", n)
		}
		l.wait(4 * time.Minute)
		c.read(another).is(l, acmeserver.StatusValid)
		for i, o := range all {
			leaf := c.download(c.read(o).is(l, acmeserver.StatusValid))
			if public, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(keys[i%3].Public()) {
				l.Errorf("order %d has a certificate for another key", i)
			}
		}
		l.delays(l.ca.times, 24, 36, 60) // one of each key, and b.example.com
	})
}

// An order that was waiting ends at its expiry, or when the first one fails.
func TestTurnAfterAFailure(t *testing.T) {
	inLab(t, withShares, func(l *lab) {
		l.ca.does(func(_ context.Context, r issueRequest) (issued, error) {
			<-time.After(time.Minute)
			if len(l.ca.called()) == 1 {
				return issued{}, &acme.Problem{Type: acme.RejectedIdentifier, Detail: "no"}
			}
			return l.ca.sign(r.CSR.Public, r.CSR.Names...), nil
		})
		c := l.account(l.start())
		first, second := c.newOrder("a.example.com"), c.newOrder("a.example.com")
		key := rawacme.NewKey()
		c.finalize(first, key)
		c.finalize(second, key)
		l.wait(2 * time.Minute)
		c.read(first).is(l, acmeserver.StatusInvalid)
		c.read(second).is(l, acmeserver.StatusValid)
	})
}

// The instance that issues is killed: the waiting order continues on another one.
func TestTurnAfterAKill(t *testing.T) {
	inLab(t, withShares, func(l *lab) {
		l.ca.slow(20 * time.Second)
		first := l.start()
		c := l.account(first)
		one, two := c.newOrder("a.example.com"), c.newOrder("a.example.com")
		c.finalize(one, rawacme.NewKey())
		c.finalize(two, rawacme.NewKey())
		first.kill()
		c.at = l.start()
		l.wait(3 * time.Minute)
		c.read(one).is(l, acmeserver.StatusValid)
		c.read(two).is(l, acmeserver.StatusValid)
		l.delays(l.ca.times, 30, 20) // the lease began with finalize
	})
}

// A certificate that was not downloaded is handed out when the same key asks again, also
// to another account. After that, the key gets a new one.
func TestUncollectedCertificate(t *testing.T) {
	inLab(t, withShares, func(l *lab) {
		s := l.start()
		c, other := l.account(s), l.account(s)
		key := rawacme.NewKey()
		c.finalize(c.newOrder("a.example.com"), key).want(http.StatusOK).order().is(l, acmeserver.StatusValid)
		l.wait(6 * 24 * time.Hour)
		other.finalize(other.newOrder("b.example.com"), key).want(http.StatusOK).order().is(l, acmeserver.StatusValid)
		again := other.finalize(other.newOrder("a.example.com"), key).want(http.StatusOK).order().is(l, acmeserver.StatusValid)
		if n := len(l.ca.called()); n != 2 {
			l.Errorf("%d issuances", n)
		}
		other.download(again)
		c.send(again.Certificate, nil).refused(acme.Unauthorized, http.StatusForbidden)
		c.download(c.finalize(c.newOrder("a.example.com"), key).want(http.StatusOK).order().is(l, acmeserver.StatusValid))
		if n := len(l.ca.called()); n != 3 {
			l.Errorf("%d issuances", n)
		}
		// Neither an old one nor one for another key is handed out.
		c.finalize(c.newOrder("a.example.com"), key).want(http.StatusOK)
		c.finalize(c.newOrder("a.example.com"), rawacme.NewKey()).want(http.StatusOK)
		l.wait(8 * 24 * time.Hour)
		c.finalize(c.newOrder("a.example.com"), key).want(http.StatusOK)
		if n := len(l.ca.called()); n != 6 {
			l.Errorf("%d issuances", n)
		}
	})
}

// A certificate that should be renewed, or has other names, is not handed out.
func TestUnfitUncollectedCertificate(t *testing.T) {
	inLab(t, func(c *acmeserver.Config) { c.Policy = oneShare{} }, func(l *lab) {
		l.ca.days = 6
		c := l.account(l.start())
		key := rawacme.NewKey()
		issue := func(name string) {
			l.Helper()
			c.finalize(c.newOrder(name), key).want(http.StatusOK).order().is(l, acmeserver.StatusValid)
			l.wait(time.Second)
		}
		issue("a.example.com")
		issue("b.example.com")
		issue("b.example.com")
		if n := len(l.ca.called()); n != 2 {
			l.Errorf("%d issuances", n)
		}
		l.wait(3 * 24 * time.Hour)
		issue("b.example.com")
		if n := len(l.ca.called()); n != 3 {
			l.Errorf("%d issuances", n)
		}
	})
}

// oneShare is a Policy that forgot what certificates may differ in.
type oneShare struct{ acmeserver.Trusting }

func (oneShare) Order(context.Context, acmeserver.OrderRequest) (acmeserver.Terms, error) {
	return acmeserver.Terms{Share: "all"}, nil
}

// The first order ends between the second one's look for its certificate and its turn.
func TestTurnComesAtOnce(t *testing.T) {
	inLab(t, withShares, func(l *lab) {
		release := make(chan struct{})
		l.ca.does(func(_ context.Context, r issueRequest) (issued, error) {
			<-release
			return l.ca.sign(r.CSR.Public, r.CSR.Names...), nil
		})
		c := l.account(l.start())
		first, second := c.newOrder("a.example.com"), c.newOrder("a.example.com")
		key := rawacme.NewKey()
		c.finalize(first, key).want(http.StatusOK).order().is(l, acmeserver.StatusProcessing)
		tries := 0
		c.at.storage.hook = func(o acmeserver.Order) {
			if o.Issuing && o.CertificateID == "" && strings.HasSuffix(second.URL, o.ID) {
				if tries++; tries == 2 { // the first one was in finalize
					close(release)
					synctest.Wait()
				}
			}
		}
		c.finalize(second, key).want(http.StatusOK).order().is(l, acmeserver.StatusValid)
		if n := len(l.ca.called()); n != 1 {
			l.Errorf("%d issuances", n)
		}
	})
}
