package localca

import (
	"context"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// CheckDates returns an *acme.Problem if the CA would refuse an order's dates, each of
// which may be zero.
func (ca *CA) CheckDates(notBefore, notAfter time.Time) error {
	now := ca.cfg.Now()
	_, _, err := ca.dates(ca.current(), acmeserver.Order{NotBefore: notBefore, NotAfter: notAfter, CreatedAt: now}, now)
	return err
}

// Policy returns a policy that refuses dates which the CA would refuse, before the order
// exists, and decides like another one otherwise. It is for a Server with Config.Dates.
func (ca *CA) Policy(other acmeserver.Policy) acmeserver.Policy { return policy{other, ca} }

type policy struct {
	acmeserver.Policy
	ca *CA
}

// Order implements acmeserver.Policy.
func (p policy) Order(ctx context.Context, r acmeserver.OrderRequest) (acmeserver.Terms, error) {
	if err := p.ca.CheckDates(r.NotBefore, r.NotAfter); err != nil {
		return acmeserver.Terms{}, err
	}
	return p.Policy.Order(ctx, r)
}
