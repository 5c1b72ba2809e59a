package acmeserver_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// unstored is a storage whose claims are not stored, although they have orders.
type unstored struct{ acmeserver.Storage }

func (u unstored) ClaimOrders(ctx context.Context, owner string, now, until time.Time, limit int) ([]acmeserver.Order, error) {
	claimed, err := u.Storage.ClaimOrders(ctx, owner, now, until, limit)
	return claimed, errors.Join(err, errDown)
}

// The issuer is not called for an order whose lease could not be stored (C12).
func TestClaimFails(t *testing.T) {
	t.Parallel()
	inLab(t, func(c *acmeserver.Config) { c.Storage = unstored{c.Storage} }, func(l *lab) {
		l.ca.does(func(context.Context, issueRequest) (issued, error) { return issued{}, errors.New("not now") })
		c := l.account(l.start())
		c.finalize(c.newOrder("a.example.com"), rawacme.NewKey()).want(http.StatusOK)
		l.wait(10 * time.Minute)
		if n := len(l.ca.called()); n != 1 { // by finalize
			l.Errorf("%d calls", n)
		}
	})
}
