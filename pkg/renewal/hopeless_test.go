package renewal_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/renewal"
)

// lost answers requests of one kind for the first order with a status, for good.
func lost(kind string, status int) func(http.Handler) http.Handler {
	f := &fault{kind: kind, status: status}
	f.on.Store(true)
	orders := 0
	return func(next http.Handler) http.Handler {
		faulty := f.wrap(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if pebbletest.Kind(r) == pebbletest.NewOrder {
				orders++
				f.on.Store(orders <= 1)
			}
			faulty.ServeHTTP(w, r)
		})
	}
}

// An order that the CA can never finish, because it has lost a part of it, is
// given up after a day. Until then no other order begins (X7).
func TestHopelessOrder(t *testing.T) {
	for name, wrap := range map[string]func(http.Handler) http.Handler{
		"certificate lost":   lost(pebbletest.Certificate, http.StatusNotFound),
		"authorization lost": lost(pebbletest.Authorization, http.StatusNotFound),
		"download fails":     lost(pebbletest.Certificate, http.StatusInternalServerError),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pebbletest.Options{Wrap: wrap})
			p := w.start(t, nil)
			m := p.want(t, managed.Certificate{Names: []string{"a.example.com"}, KeyType: "ec256"})
			p.tick(t)
			for range 3 {
				w.pass(7 * time.Hour)
				p.tick(t)
			}
			if n := w.newOrders(); n != 1 || p.row(t, m.ID).Failures != 4 {
				t.Fatalf("%d orders after %d failures of 21 hours, want 1 after 4", n, p.row(t, m.ID).Failures)
			}
			w.pass(4 * time.Hour)
			p.tick(t)
			w.bundle(t, p, m.ID)
			if n := w.newOrders(); n != 2 || p.journal(t, m.ID) != nil {
				t.Errorf("%d orders, want 2", n)
			}
		})
	}
}

// While the CA keeps failing, there is one order a day at most.
func TestHopelessOrdersADay(t *testing.T) {
	t.Parallel()
	f := &fault{kind: pebbletest.Certificate, status: http.StatusNotFound}
	f.on.Store(true)
	w := newWorld(t, pebbletest.Options{Wrap: f.wrap})
	p := w.start(t, nil)
	p.want(t, managed.Certificate{Names: []string{"a.example.com"}, KeyType: "ec256"})
	const days = 3
	for range days*4 + 1 {
		p.tick(t)
		w.pass(6 * time.Hour)
	}
	if n := w.newOrders(); n < 2 || n > days+1 {
		t.Errorf("%d orders in %d days, want one a day", n, days)
	}
}

// A proxy that was stopped for days finishes its order, since it has not tried yet
// (X7).
func TestOldOrderIsResumed(t *testing.T) {
	w := newWorld(t, pebbletest.Options{})
	killer := &death{onOrder: true}
	first := w.start(t, func(cfg *renewal.Config) {
		killer.Issuer = cfg.Issuer
		cfg.Issuer = killer
	})
	m := first.want(t, managed.Certificate{Names: []string{"a.example.com"}, KeyType: "ec256"})
	first.tick(t)
	w.pass(72 * time.Hour)
	second := w.start(t, nil)
	second.tick(t)
	w.bundle(t, second, m.ID)
	if n := w.newOrders(); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
}

// The order that uses up the end of a certificate's life is given up once more
// before the certificate ends, after an hour.
func TestLastChance(t *testing.T) {
	t.Parallel()
	f := &fault{kind: pebbletest.Certificate, status: http.StatusNotFound}
	w := newWorld(t, pebbletest.Options{Wrap: f.wrap})
	p := w.start(t, nil)
	m := p.want(t, managed.Certificate{Names: []string{"a.example.com"}, KeyType: "ec256"})
	p.tick(t)
	row := p.row(t, m.ID)
	f.on.Store(true)
	w.pass(row.NotAfter.Add(-18 * time.Hour).Sub(w.now())) // the proxy was off
	for range 5 {
		p.tick(t)
		w.pass(time.Hour)
	}
	if n := w.newOrders(); n != 2 {
		t.Fatalf("%d orders, want 2", n)
	}
	for range 5 { // now in the last twelve hours
		p.tick(t)
		w.pass(time.Hour)
	}
	if n := w.newOrders(); n != 3 {
		t.Errorf("%d orders, want 3", n)
	}
}
