package relay

import (
	"errors"
	"fmt"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// An order that was superseded during an outage of the CA costs no quota, and the audit
// trail says what became of it (X5, X20).
func TestSupersededOrderCostsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t) // the quota is one
	r.ca.err = &acme.Error{Kind: acme.Temporary, Detail: "connection refused", Err: errors.New("dial")}
	for i := range 3 {
		r.req.Order.ID = fmt.Sprint("o", i)
		if _, err := r.Issue(t.Context(), r.req); err == nil || errors.As(err, new(*acme.Problem)) {
			t.Fatalf("order %d: %v", i, err)
		}
		r.Superseded(t.Context(), r.req.Order)
		r.Superseded(t.Context(), r.req.Order) // nothing is returned twice
	}
	for i, used := range []bool{false, true} {
		r.req.Order.ID = fmt.Sprint("p", i)
		_, err := r.Issue(t.Context(), r.req)
		if refused := errors.As(err, new(*acme.Problem)); refused != used {
			t.Errorf("after the superseded ones, order %d: %v", i, err)
		}
	}
	r.recording.Wait()
	page, err := r.st.Audit(t.Context(), trail.Query{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range page {
		if e.Action == "certificate" && e.Detail == "superseded by a newer order with another key before the CA received it" {
			n++
		}
	}
	if n != 3 {
		t.Errorf("%d entries about superseded orders", n)
	}
	var _ acmeserver.Superseder = r.Relay
}
