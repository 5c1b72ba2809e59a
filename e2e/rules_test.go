package e2e

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// rules is a policy that refuses some names and lets the orders of the same names take
// turns.
type rules struct {
	acmeserver.Policy
	limited  bool // refuse as if a limit were reached that ends late
	replaced atomic.Int64
}

// Order implements acmeserver.Policy.
func (p *rules) Order(ctx context.Context, r acmeserver.OrderRequest) (acmeserver.Terms, error) {
	if r.Replaces != "" {
		p.replaced.Add(1)
	}
	var names []string
	for _, id := range r.Identifiers {
		if strings.HasPrefix(id.Value, "refused.") {
			return acmeserver.Terms{}, p.refuse(id)
		}
		names = append(names, id.Value)
	}
	terms, err := p.Policy.Order(ctx, r)
	slices.Sort(names)
	terms.Share = strings.Join(names, " ")
	return terms, err
}

func (p *rules) refuse(id acme.Identifier) error {
	if p.limited {
		return &acme.Problem{Type: acme.RateLimit, Status: 403, Detail: "too many certificates; try again after 2030-01-02"}
	}
	detail := "rejected by the rules; ask the administrator"
	return &acme.Problem{Type: acme.RejectedIdentifier, Detail: detail, Subproblems: []acme.Subproblem{
		{Type: acme.RejectedIdentifier, Detail: detail, Identifier: id},
	}}
}

// bound admits accounts with one external account binding.
type bound struct {
	kid string
	key []byte
}

func (b *bound) RequiresBinding(context.Context, string) (bool, error) { return true, nil }

func (b *bound) BindingKey(_ context.Context, kid string) ([]byte, error) {
	if kid != b.kid {
		return nil, acmeserver.ErrNotFound
	}
	return b.key, nil
}

func (b *bound) Admit(_ context.Context, a acmeserver.NewAccount) (string, error) { return a.Kid, nil }

func (b *bound) Allow(context.Context, acmeserver.Account, netip.Addr) error { return nil }
