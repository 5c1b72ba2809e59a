package acmeserver

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// OrderRequest is a request for an order whose form is correct.
type OrderRequest struct {
	Account             Account
	Addr                netip.Addr        // the caller's
	Identifiers         []acme.Identifier // distinct, canonical, wildcards with "*."
	Profile             string            // one of the configured ones, or empty
	NotBefore, NotAfter time.Time         // zero: none
	Replaces            string            // ARI id, or empty
}

// Terms holds the Policy's conditions for an order.
type Terms struct {
	// Challenges returns the types of challenges of an identifier. If it returns none, or
	// is nil, the authorization is valid at once.
	Challenges func(acme.Identifier) []string
	// Lifetime of the order until it must be finished; the Server's default if 0.
	Lifetime time.Duration
	// Share names orders that are issued one after the other. While one of them is being
	// issued, the others wait. One with the same key gets the same certificate, also if
	// no client collected it yet. While the issuer fails, an order with another key
	// supersedes older ones of its account, since programs such as certbot create a new key at
	// each attempt. So it must tell everything apart that certificates may
	// differ in, such as identifiers and profile. Empty: the order waits for no other.
	Share string
}

// Policy decides about orders. Its methods may be used concurrently. An error that is an
// *acme.Problem is the client's answer; it should have a subproblem for each refused
// identifier. Any other error is logged, and the answer is serverInternal.
type Policy interface {
	// Order decides before an order exists.
	Order(ctx context.Context, r OrderRequest) (Terms, error)
	// Finalize decides again, about the CSR, before the issuer is called.
	Finalize(ctx context.Context, r OrderRequest, csr *cert.CSR) error
}

// Deliverer is a Policy that decides once more before a client gets a certificate for the
// first time. The certificate may have waited for long, or come from another order.
type Deliverer interface {
	// Deliver gets the request for the order as far as it is known: without the dates and
	// Replaces, and without the Profile if the order was deleted.
	Deliver(ctx context.Context, r OrderRequest) error
}

// Challenged is a Policy that demands a challenge for each identifier.
type Challenged struct {
	// Types are the challenges that are offered where they are possible: dns-01 for
	// wildcards, http-01 and tls-alpn-01 for IP addresses, all three for names.
	Types []string
}

// Order implements Policy.
func (c Challenged) Order(_ context.Context, r OrderRequest) (Terms, error) {
	refused := &acme.Problem{Type: acme.RejectedIdentifier, Detail: "no challenge can prove control of an identifier"}
	for _, id := range r.Identifiers {
		if len(c.possible(id)) == 0 {
			refused.Subproblems = append(refused.Subproblems, acme.Subproblem{
				Type: acme.RejectedIdentifier, Identifier: id,
				Detail: "none of the offered challenges is possible: " + strings.Join(c.Types, ", "),
			})
		}
	}
	if len(refused.Subproblems) > 0 {
		return Terms{}, refused
	}
	return Terms{Challenges: c.possible}, nil
}

// Finalize implements Policy.
func (Challenged) Finalize(context.Context, OrderRequest, *cert.CSR) error { return nil }

func (c Challenged) possible(id acme.Identifier) []string {
	return slices.DeleteFunc(slices.Clone(c.Types), func(t string) bool {
		switch {
		case strings.HasPrefix(id.Value, "*."):
			return t != acme.DNS01
		case id.Type == acme.TypeIP:
			return t == acme.DNS01
		}
		return false
	})
}

// Trusting is a Policy that treats every identifier as authorized. It is for servers
// that admit only accounts which may have any certificate.
type Trusting struct{}

// Order implements Policy.
func (Trusting) Order(context.Context, OrderRequest) (Terms, error) { return Terms{}, nil }

// Finalize implements Policy.
func (Trusting) Finalize(context.Context, OrderRequest, *cert.CSR) error { return nil }
