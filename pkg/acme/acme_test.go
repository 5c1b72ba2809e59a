package acme_test

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// RFC 9773, section 4.1, has this example.
func TestCertID(t *testing.T) {
	aki, err := hex.DecodeString("69885b6b87464041e1b37b847ba0ae2cde01c8d4")
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{AuthorityKeyId: aki, SerialNumber: big.NewInt(0x87654321)}
	id, err := acme.CertID(leaf)
	if want := "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"; err != nil || id != want {
		t.Errorf("%q, %v; want %q", id, err, want)
	}
	leaf.SerialNumber = big.NewInt(0x7f)
	if id, err := acme.CertID(leaf); err != nil || !strings.HasSuffix(id, ".fw") {
		t.Errorf("without a leading zero: %q, %v", id, err)
	}
	for _, bad := range []*x509.Certificate{{SerialNumber: big.NewInt(1)}, {AuthorityKeyId: aki}, {AuthorityKeyId: aki, SerialNumber: new(big.Int)}} {
		if id, err := acme.CertID(bad); err == nil {
			t.Errorf("%q for a certificate that has no id", id)
		}
	}
}

// Subproblems are read and shown (RFC 8555, section 6.7.1).
func TestProblem(t *testing.T) {
	var p acme.Problem
	if err := json.Unmarshal([]byte(`{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"two names","status":403,
		"subproblems":[{"type":"urn:ietf:params:acme:error:caa","detail":"CAA forbids","identifier":{"type":"dns","value":"a.example.com"}}]}`), &p); err != nil {
		t.Fatal(err)
	}
	if want := "two names; a.example.com: CAA forbids (rejectedIdentifier)"; p.Error() != want || p.Subproblems[0].Identifier.Type != acme.TypeDNS {
		t.Errorf("%q, want %q; %+v", p.Error(), want, p)
	}
}

// Clients do not read causes that only the administrator may know.
func TestForClient(t *testing.T) {
	cause := errors.New("dial tcp 10.1.2.3:53: refused")
	e := &acme.Error{Kind: acme.Temporary, Op: "publish the TXT record for", Identifier: "a.example.com", Detail: cause.Error(), Err: cause}
	if text := e.ForClient(); strings.Contains(text, "10.1.2.3") || !strings.HasPrefix(text, "publish the TXT record for a.example.com: ") {
		t.Errorf("a client reads %q", text)
	}
	e.Public = true
	if e.ForClient() != e.Error() || !errors.Is(e, cause) {
		t.Errorf("%q, %q", e.ForClient(), e)
	}
}

func ExampleError() {
	var err error = &acme.Error{
		Kind: acme.RateLimited, Op: "newOrder", Type: acme.RateLimit, Detail: "too many orders",
		RetryAt: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}
	var e *acme.Error
	if errors.As(err, &e) && e.Kind == acme.RateLimited {
		fmt.Println(e)
	}
	// Output: newOrder: too many orders (rateLimited); the CA asks to wait until 2026-03-01 12:00:00 UTC
}
