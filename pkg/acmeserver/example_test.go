package acmeserver_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"

	goacme "golang.org/x/crypto/acme"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/localca"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// A complete server with a CA of its own, and a client that gets a certificate.
func ExampleServer() {
	dir, err := os.MkdirTemp("", "acmeserver")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ca, err := localca.Open(localca.Config{Dir: dir})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ca.Close()

	mux := http.NewServeMux()
	listener := httptest.NewServer(mux) // a program has an http.Server with timeouts here
	defer listener.Close()
	server, err := acmeserver.New(acmeserver.Config{
		URL: listener.URL + "/acme", Storage: acmeserver.NewMemory(), Issuer: ca,
		Policy: intranet{},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux.Handle("/acme/", server)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { server.Run(ctx) })
	defer running.Wait()
	defer stop()

	for _, name := range []string{"web1.corp.example", "www.example.com"} {
		names, err := obtain(ctx, listener.URL+"/acme/directory", name)
		fmt.Println(names, err)
	}
	// Output:
	// [web1.corp.example] <nil>
	// [] 400 urn:ietf:params:acme:error:rejectedIdentifier: www.example.com is not in corp.example
}

// intranet is a Policy that trusts all clients with the names of one domain.
type intranet struct{}

// Order implements acmeserver.Policy.
func (intranet) Order(_ context.Context, r acmeserver.OrderRequest) (acmeserver.Terms, error) {
	for _, id := range r.Identifiers {
		if !strings.HasSuffix(id.Value, ".corp.example") {
			return acmeserver.Terms{}, &acme.Problem{
				Type: acme.RejectedIdentifier, Detail: id.Value + " is not in corp.example",
			}
		}
	}
	return acmeserver.Terms{}, nil // no challenges
}

// Finalize implements acmeserver.Policy.
func (intranet) Finalize(context.Context, acmeserver.OrderRequest, *cert.CSR) error { return nil }

// obtain gets a certificate as any ACME client does, and returns its names.
func obtain(ctx context.Context, directory, name string) ([]string, error) {
	account, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	client := &goacme.Client{Key: account, DirectoryURL: directory}
	if _, err := client.Register(ctx, &goacme.Account{}, goacme.AcceptTOS); err != nil {
		return nil, err
	}
	o, err := client.AuthorizeOrder(ctx, goacme.DomainIDs(name))
	if err != nil {
		return nil, err
	}
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		return nil, err
	}
	csr, err := cert.NewCSR(key, cert.Names{name})
	if err != nil {
		return nil, err
	}
	chain, _, err := client.CreateOrderCert(ctx, o.FinalizeURL, csr, false)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, err
	}
	return leaf.DNSNames, nil
}

// A validator that has no answer yet is asked again later. This one waits for a person.
func ExampleValidatorFunc() {
	approved := map[string]bool{"web1.example.com": true}
	byPerson := acmeserver.ValidatorFunc(func(_ context.Context, v acmeserver.Validation) error {
		if !approved[v.Identifier.Value] {
			return &acmeserver.Later{Reason: "the administrator has not answered"}
		}
		return nil
	})
	cfg := acmeserver.Config{Validators: map[string]acmeserver.Validator{acme.HTTP01: byPerson}}
	for _, name := range []string{"web1.example.com", "web2.example.com"} {
		v := acmeserver.Validation{Identifier: acme.Identifier{Type: acme.TypeDNS, Value: name}}
		fmt.Println(cfg.Validators[acme.HTTP01].Validate(context.Background(), v))
	}
	// Output:
	// <nil>
	// not yet: the administrator has not answered
}
