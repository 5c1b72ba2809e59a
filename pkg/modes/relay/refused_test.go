package relay

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// The CA is not asked again for names that it refused at newOrder, for a time that grows
// from one minute to five. A reload, and an hour without a refusal, end that (X20).
func TestRefusedNamesWait(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.ca.err = &acme.Error{Kind: acme.Permanent, Type: acme.RejectedIdentifier, Detail: "more than 10 labels."}
	asked := func(seconds int) bool {
		t.Helper()
		r.advance(time.Duration(seconds) * time.Second)
		before := r.ca.orders
		_, err := r.Issue(t.Context(), r.req)
		var p *acme.Problem
		if !errors.As(err, &p) || p.Type != acme.RejectedIdentifier {
			t.Fatal(err)
		}
		again := r.ca.orders > before
		if told := strings.HasPrefix(p.Detail, "more than 10 labels; this proxy asks the CA for these names again after "); told == again {
			t.Errorf("asked %v: %q", again, p.Detail)
		}
		return again
	}
	for i, s := range []struct {
		seconds int
		want    bool
	}{
		{0, true},
		{59, false},
		{1, true},
		{119, false},
		{1, true},
		{239, false},
		{1, true},
		{299, false},
		{1, true},
		{299, false},
		{1, true},
		{300 + 3600, true},
		{60, true},
		{60, false},
	} {
		if got := asked(s.seconds); got != s.want {
			t.Errorf("step %d: asked %v", i, got)
		}
	}
	r.Reloaded()
	if !asked(0) {
		t.Error("the CA is not asked after a reload")
	}
}

// A client and day have ten refusals of the CA for nothing. After that they count against
// the quota, even if the names are others each time (X20).
func TestReturnedQuota(t *testing.T) {
	t.Parallel()
	r := newRig(t) // the quota is one
	r.ca.err = &acme.Error{Kind: acme.Permanent, Type: acme.RejectedIdentifier, Detail: "no"}
	spend := func(day int) {
		t.Helper()
		for i := range mostReturns + 3 {
			r.req.Order.ID = fmt.Sprintf("o%d.%d", day, i)
			r.req.Order.Share = "s" + r.req.Order.ID
			_, err := r.Issue(t.Context(), r.req)
			want := acme.RejectedIdentifier
			if i > mostReturns {
				want = acme.RateLimit
			}
			var p *acme.Problem
			if !errors.As(err, &p) || p.Type != want {
				t.Errorf("day %d, order %d: %v, want %s", day, i, err, want)
			}
		}
	}
	for day := range 2 {
		spend(day)
		if want := (day + 1) * (mostReturns + 1); r.ca.orders != want {
			t.Errorf("%d orders at the CA, want %d", r.ca.orders, want)
		}
		r.advance(24 * time.Hour)
	}
}
