package pebbletest

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/sync/errgroup"
)

// The in-process CA issues a certificate over HTTP/2, and counts each request.
func TestStart(t *testing.T) {
	t.Parallel()
	ca := Start(t, Options{})
	resp, err := ca.HTTPClient().Get(ca.DirectoryURL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		t.Fatalf("directory: %s over %s, want 200 over HTTP/2", resp.Status, resp.Proto)
	}

	answers := startResponder(t, ca.HTTPPort)
	client := newACMEClient(t, ca.DirectoryURL, ca.HTTPClient())
	ca.Requests().Reset()
	chain, err := issue(t.Context(), client, answers, newKey(t), "www.example.com")
	if err != nil {
		t.Fatal(err)
	}
	leaf := checkChain(t, chain, ca.RootsPEM, "www.example.com")
	if got := leaf.NotAfter.Sub(leaf.NotBefore).Round(time.Hour); got != 90*24*time.Hour {
		t.Errorf("lifetime is %v, want 90 days", got)
	}
	for _, kind := range []string{NewOrder, Challenge, Finalize, Certificate} {
		if got := ca.Requests().Count(kind); got != 1 {
			t.Errorf("%d requests of kind %s, want 1 (all: %v)", got, kind, ca.Requests().Counts())
		}
	}
	if got := ca.Requests().Count(Other); got != 0 {
		t.Errorf("%d requests of unknown kind", got)
	}
}

// Many concurrent orders do not block, and several CAs can run at the same time.
func TestStartConcurrent(t *testing.T) {
	t.Parallel()
	for i := range 2 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			ca := Start(t, Options{})
			answers := startResponder(t, ca.HTTPPort)
			client := newACMEClient(t, ca.DirectoryURL, ca.HTTPClient())
			key := newKey(t)
			g, ctx := errgroup.WithContext(t.Context())
			for i := range 32 {
				g.Go(func() error {
					_, err := issue(ctx, client, answers, key, fmt.Sprintf("w%d.example.com", i))
					return err
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Wrap can make requests of a kind fail. They are counted as well.
func TestStartWrap(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	ca := Start(t, Options{Wrap: func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if Kind(r) == NewOrder && broken.Load() {
				http.Error(w, "down for maintenance", http.StatusForbidden)
				return
			}
			h.ServeHTTP(w, r)
		})
	}})
	client := newACMEClient(t, ca.DirectoryURL, ca.HTTPClient())
	broken.Store(true)
	if _, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("www.example.com")); err == nil {
		t.Error("newOrder succeeded although Wrap refuses it")
	}
	if got := ca.Requests().Count(NewOrder); got != 1 {
		t.Errorf("%d newOrder requests counted, want 1", got)
	}
}

// Settings that Pebble reads from the environment apply to one CA only.
func TestStartNonceReject(t *testing.T) {
	t.Parallel()
	bad, good := Start(t, Options{NonceReject: 100}), Start(t, Options{})
	for _, c := range []struct {
		ca   *CA
		want bool
	}{{bad, true}, {good, false}} {
		client := &acme.Client{
			Key: newKey(t), DirectoryURL: c.ca.DirectoryURL, HTTPClient: c.ca.HTTPClient(),
			RetryBackoff: func(int, *http.Request, *http.Response) time.Duration { return -1 },
		}
		_, err := client.Register(t.Context(), &acme.Account{}, acme.AcceptTOS)
		if (err != nil) != c.want {
			t.Errorf("register: error %v, want one: %v", err, c.want)
		}
	}
}

// With EAB keys, an account needs a binding.
func TestStartEAB(t *testing.T) {
	t.Parallel()
	const key = "0123456789abcdef0123456789abcdef"
	ca := Start(t, Options{EAB: map[string]string{"kid-1": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}})
	client := &acme.Client{Key: newKey(t), DirectoryURL: ca.DirectoryURL, HTTPClient: ca.HTTPClient()}
	if _, err := client.Register(t.Context(), &acme.Account{}, acme.AcceptTOS); err == nil {
		t.Error("an account without a binding was accepted")
	}
	binding := &acme.ExternalAccountBinding{KID: "kid-1", Key: []byte(key)}
	if _, err := client.Register(t.Context(), &acme.Account{ExternalAccountBinding: binding}, acme.AcceptTOS); err != nil {
		t.Errorf("an account with a binding was refused: %v", err)
	}
}

// Profiles set the lifetime.
func TestStartProfiles(t *testing.T) {
	t.Parallel()
	ca := Start(t, Options{Profiles: map[string]time.Duration{"short": time.Hour}})
	answers := startResponder(t, ca.HTTPPort)
	client := newACMEClient(t, ca.DirectoryURL, ca.HTTPClient())
	chain, err := issue(t.Context(), client, answers, newKey(t), "www.example.com")
	if err != nil {
		t.Fatal(err)
	}
	leaf := checkChain(t, chain, ca.RootsPEM, "www.example.com")
	if got := leaf.NotAfter.Sub(leaf.NotBefore).Round(time.Minute); got != time.Hour {
		t.Errorf("lifetime is %v, want 1h", got)
	}
}
