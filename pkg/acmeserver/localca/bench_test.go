package localca_test

import (
	"strconv"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/localca"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

func BenchmarkIssue(b *testing.B) {
	ca, err := localca.Open(localca.Config{Dir: b.TempDir(), URL: base})
	if err != nil {
		b.Fatal(err)
	}
	defer ca.Close()
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		b.Fatal(err)
	}
	der, err := cert.NewCSR(key, cert.Names{"a.example.com"})
	if err != nil {
		b.Fatal(err)
	}
	csr, err := cert.ParseCSR(der)
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if _, err := ca.Issue(b.Context(), acmeserver.IssueRequest{CSR: csr, Order: acmeserver.Order{ID: strconv.Itoa(i)}}); err != nil {
			b.Fatal(err)
		}
	}
}
