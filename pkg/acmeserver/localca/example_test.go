package localca_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/localca"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// A CA issues for an order. The Server of package acmeserver makes these calls.
func ExampleOpen() {
	run := func(dir string) error {
		ca, err := localca.Open(localca.Config{Dir: dir, CommonName: "Example", Lifetime: 24 * time.Hour})
		if err != nil {
			return err
		}
		defer ca.Close()

		key, err := cert.GenerateKey(cert.EC256)
		if err != nil {
			return err
		}
		der, err := cert.NewCSR(key, cert.Names{"web1.example.com"})
		if err != nil {
			return err
		}
		csr, err := cert.ParseCSR(der)
		if err != nil {
			return err
		}
		order := acmeserver.Order{ID: "1", CreatedAt: time.Now()}
		issued, err := ca.Issue(context.Background(), acmeserver.IssueRequest{Order: order, CSR: csr})
		if err != nil {
			return err
		}
		bundle, err := cert.NewBundle(issued.Chain, key, csr.Public, csr.Names)
		if err != nil {
			return err
		}
		fmt.Println(bundle.Leaf.DNSNames, "by", bundle.Leaf.Issuer.CommonName)
		return nil
	}
	dir, err := os.MkdirTemp("", "localca")
	if err == nil {
		defer os.RemoveAll(dir)
		err = run(dir)
	}
	if err != nil {
		fmt.Println(err)
	}
	// Output: [web1.example.com] by Example Issuing 1
}
