package issuer_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
)

// result holds the results of one Issue.
type result struct {
	bundle *cert.Bundle
	err    error
}

// issueHeld starts an issuance and returns when the CA has its request for an order.
// free lets the CA answer.
func issueHeld(ctx context.Context, t *testing.T, e *env, ca *pebbletest.Fault, req cert.Request) (done <-chan result, free func()) {
	t.Helper()
	held, release, results := make(chan struct{}), make(chan struct{}), make(chan result, 1)
	var first atomic.Bool
	ca.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if pebbletest.Kind(r) == pebbletest.NewOrder && first.CompareAndSwap(false, true) {
			close(held)
			<-release
		}
		next.ServeHTTP(w, r)
	})
	free = sync.OnceFunc(func() { close(release) })
	t.Cleanup(free)
	go func() {
		b, err := e.issuer.Issue(ctx, req, nil)
		results <- result{b, err}
	}()
	<-held
	return results, free
}

// newCSR returns a CSR. Two CSRs of one key differ in their signatures.
func newCSR(t *testing.T, key crypto.Signer, n cert.Names) []byte {
	t.Helper()
	csr, err := cert.NewCSR(key, n)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// Two identical concurrent requests of a client get one order and the same bundle. A
// request with another client, another key or a journal gets its own order.
func TestSingleFlight(t *testing.T) {
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	other, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	n := names(t, "flight.example.com", "www.flight.example.com")
	plain := cert.Request{Names: n, KeyType: cert.EC256, Client: "a"}
	change := func(f func(*cert.Request)) cert.Request {
		req := plain
		f(&req)
		return req
	}
	withKey := func(key crypto.Signer) cert.Request {
		return change(func(r *cert.Request) { r.CSR = newCSR(t, key, n) })
	}
	for name, test := range map[string]struct {
		first, second cert.Request
		shared        bool
	}{
		"same":           {plain, plain, true},
		"same CSR key":   {withKey(key), withKey(key), true},
		"other CSR key":  {withKey(key), withKey(other), false},
		"CSR":            {plain, withKey(key), false},
		"other client":   {plain, change(func(r *cert.Request) { r.Client = "b" }), false},
		"other names":    {plain, change(func(r *cert.Request) { r.Names = names(t, "flight.example.com") }), false},
		"other key type": {plain, change(func(r *cert.Request) { r.KeyType = cert.EC384 }), false},
		"with a journal": {plain, change(func(r *cert.Request) { r.OnOrder = func(context.Context, cert.Order) error { return nil } }), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ca pebbletest.Fault
			e := start(t, pebbletest.Options{Wrap: ca.Wrap}, nil)
			done, free := issueHeld(t.Context(), t, e, &ca, test.first)
			second := make(chan result, 1)
			go func() {
				b, err := e.issuer.Issue(t.Context(), test.second, nil)
				second <- result{b, err}
			}()
			if test.shared {
				watch.Until(t, "the second request joins", func() bool { return issuer.Waiting(e.issuer.Pool) == 2 })
				free()
			} else {
				r := <-second // it does not wait for the first one
				second <- r
				free()
			}
			a, b := <-done, <-second
			if a.err != nil || b.err != nil {
				t.Fatal(a.err, b.err)
			}
			if same := a.bundle.Serial() == b.bundle.Serial(); same != test.shared {
				t.Errorf("serials %s and %s", a.bundle.Serial(), b.bundle.Serial())
			}
			if want := map[bool]int{true: 1, false: 2}[test.shared]; e.ca.Requests().Count(pebbletest.NewOrder) != want {
				t.Errorf("%d orders, want %d", e.ca.Requests().Count(pebbletest.NewOrder), want)
			}
			if a.bundle.CA != e.ca.DirectoryURL {
				t.Errorf("issued by %q", a.bundle.CA)
			}
		})
	}
}

// If the first or the second caller leaves, the issuance of the other one continues.
func TestSingleFlightOutlivesOneCaller(t *testing.T) {
	for _, leaves := range []int{0, 1} {
		t.Run(fmt.Sprint(leaves), func(t *testing.T) {
			t.Parallel()
			var ca pebbletest.Fault
			e := start(t, pebbletest.Options{Wrap: ca.Wrap}, nil)
			req := ec(names(t, "leaves.example.com"))
			var contexts [2]context.Context
			var cancel [2]context.CancelFunc
			for i := range contexts {
				contexts[i], cancel[i] = context.WithCancel(t.Context())
				defer cancel[i]()
			}
			first, free := issueHeld(contexts[0], t, e, &ca, req)
			var told atomic.Int32
			second := make(chan result, 1)
			go func() {
				b, err := e.issuer.Issue(contexts[1], req, func(acme.Event) { told.Add(1) })
				second <- result{b, err}
			}()
			watch.Until(t, "the second request joins", func() bool { return issuer.Waiting(e.issuer.Pool) == 2 })
			cancel[leaves]()
			watch.Until(t, "one leaves", func() bool { return issuer.Waiting(e.issuer.Pool) == 1 })
			free()
			results := []result{<-first, <-second}
			if err := results[leaves].err; !errors.Is(err, context.Canceled) {
				t.Errorf("the caller that left got %v", err)
			}
			if err := results[1-leaves].err; err != nil {
				t.Errorf("the other caller got %v", err)
			}
			if n := e.ca.Requests().Count(pebbletest.NewOrder); n != 1 {
				t.Errorf("%d orders", n)
			}
			if leaves == 0 && told.Load() == 0 {
				t.Error("the second caller was told of no event")
			}
		})
	}
}

// A pool uses the CA that a request names, by name or by directory URL.
func TestPoolChoosesByName(t *testing.T) {
	one, two := start(t, pebbletest.Options{}, nil), start(t, pebbletest.Options{}, nil)
	cas := []issuer.CAConfig{one.config, two.config}
	cas[1].Name = "second"
	pool, err := issuer.NewPool(issuer.PoolConfig{CAs: cas})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"": one.ca.DirectoryURL, "second": two.ca.DirectoryURL, two.ca.DirectoryURL: two.ca.DirectoryURL} {
		req := ec(names(t, "pool.example.com"))
		req.CA = name
		b, err := pool.Issue(t.Context(), req, nil)
		if err != nil || b.CA != want {
			t.Errorf("%q: %v, want a certificate of %s", name, err, want)
			continue
		}
		leaf, err := pool.Certificate(t.Context(), name, b.URL)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if err := pool.Revoke(t.Context(), name, leaf.Raw, cert.Superseded); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	req := ec(names(t, "pool.example.com"))
	req.CA = "third"
	var failed *acme.Error
	if _, err := pool.Issue(t.Context(), req, nil); !errors.As(err, &failed) || failed.Kind != acme.Permanent {
		t.Errorf("an unknown CA: %v", err)
	}
	if err := pool.Revoke(t.Context(), "third", nil, cert.Superseded); !errors.As(err, &failed) || failed.Kind != acme.Permanent {
		t.Errorf("revocation at an unknown CA: %v", err)
	}
	if _, err := pool.Certificate(t.Context(), "third", ""); !errors.As(err, &failed) || failed.Kind != acme.Permanent {
		t.Errorf("a certificate at an unknown CA: %v", err)
	}
	if !pool.HasCA("second") || !pool.HasCA(one.ca.DirectoryURL) || pool.HasCA("third") {
		t.Error("the pool does not know its CAs")
	}
	if _, err := issuer.NewPool(issuer.PoolConfig{CAs: []issuer.CAConfig{cas[0], cas[0]}}); err == nil {
		t.Error("two CAs with one name")
	}
}
