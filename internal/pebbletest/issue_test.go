package pebbletest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"
)

// responder answers HTTP-01 challenges.
type responder struct {
	answers sync.Map // path to key authorization
}

func (a *responder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, ok := a.answers.Load(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	fmt.Fprint(w, answer)
}

// startResponder answers HTTP-01 challenges at port.
func startResponder(t *testing.T, port int) *responder {
	t.Helper()
	a := &responder{}
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: a, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return a
}

// newACMEClient returns a client with a registered account.
func newACMEClient(t *testing.T, directoryURL string, hc *http.Client) *acme.Client {
	t.Helper()
	client := &acme.Client{Key: newKey(t), DirectoryURL: directoryURL, HTTPClient: hc}
	if _, err := client.Register(t.Context(), &acme.Account{}, acme.AcceptTOS); err != nil {
		t.Fatal(err)
	}
	return client
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue gets a certificate for name and returns the chain as DER, leaf first.
func issue(ctx context.Context, client *acme.Client, a *responder, key *ecdsa.PrivateKey, name string) ([][]byte, error) {
	order, err := client.AuthorizeOrder(ctx, acme.DomainIDs(name))
	if err != nil {
		return nil, err
	}
	for _, u := range order.AuthzURLs {
		if err := authorize(ctx, client, a, u); err != nil {
			return nil, err
		}
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
	if err != nil {
		return nil, err
	}
	chain, _, err := client.CreateCertFromOrder(ctx, order, csr, true)
	return chain, err
}

func authorize(ctx context.Context, client *acme.Client, a *responder, authzURL string) error {
	authz, err := client.GetAuthorization(ctx, authzURL)
	if err != nil || authz.Status == acme.StatusValid {
		return err
	}
	for _, challenge := range authz.Challenges {
		if challenge.Type != "http-01" {
			continue
		}
		answer, err := client.HTTP01ChallengeResponse(challenge.Token)
		if err != nil {
			return err
		}
		path := client.HTTP01ChallengePath(challenge.Token)
		a.answers.Store(path, answer)
		defer a.answers.Delete(path)
		if _, err := client.Accept(ctx, challenge); err != nil {
			return err
		}
		_, err = client.WaitAuthorization(ctx, authzURL)
		return err
	}
	return fmt.Errorf("authorization %s offers no http-01 challenge", authzURL)
}

// checkChain checks that chain is for name and ends at one of the roots.
func checkChain(t *testing.T, chain [][]byte, rootsPEM []byte, name string) *x509.Certificate {
	t.Helper()
	if len(chain) < 2 {
		t.Fatalf("chain has %d certificates, want leaf and intermediate", len(chain))
	}
	certs, err := x509.ParseCertificates([]byte(strings.Join(toStrings(chain), "")))
	if err != nil {
		t.Fatal(err)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	if !roots.AppendCertsFromPEM(rootsPEM) {
		t.Fatal("RootsPEM holds no certificate")
	}
	for _, c := range certs[1:] {
		intermediates.AddCert(c)
	}
	if _, err := certs[0].Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: intermediates}); err != nil {
		t.Fatalf("verify the chain for %s: %v", name, err)
	}
	return certs[0]
}

func toStrings(in [][]byte) []string {
	var out []string
	for _, b := range in {
		out = append(out, string(b))
	}
	return out
}
