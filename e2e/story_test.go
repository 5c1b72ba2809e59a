package e2e

import (
	"context"
	"io"
	"log"
	"os"
	"strings"
	"testing"
	"time"

	legolog "github.com/go-acme/lego/v4/log"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
)

// storyLimit bounds the time of one client at one target.
const storyLimit = 5 * time.Minute

func TestMain(m *testing.M) {
	legolog.Logger = log.New(io.Discard, "", 0) // the package has one for all its clients
	os.Exit(m.Run())
}

// TestClients runs each client at each target.
func TestClients(t *testing.T) {
	for _, where := range targets {
		t.Run(where.name, func(t *testing.T) {
			t.Parallel()
			newSite := where.start(t)
			for _, k := range kinds {
				t.Run(k.name, func(t *testing.T) {
					t.Parallel()
					for _, program := range k.programs {
						pebbletest.Tool(t, program)
					}
					ctx, cancel := context.WithTimeout(t.Context(), storyLimit)
					defer cancel()
					s := newSite(t, k)
					(&story{t, k, s, k.start(t, s)}).tell(ctx)
				})
			}
		})
	}
}

// story holds one client's work at one target.
type story struct {
	*testing.T
	kind   kind
	site   *site
	client client
}

func (s *story) tell(ctx context.Context) {
	if err := s.client.register(ctx); err != nil && !lacks(s.T, err) {
		s.Fatalf("register: %v", err)
	}
	one := s.site.names("one")
	first := s.issued(ctx, s.client.issue, one)
	s.issued(ctx, s.client.issue, s.site.three)
	s.renew(ctx, one, first[0])
	s.rollover(ctx)
	s.refused(ctx)
	if s.site.check != nil {
		s.site.check(s.T)
	}
}

// issued orders and checks certificates.
func (s *story) issued(
	ctx context.Context, order func(context.Context, ...string) ([]*certificate, error), names []string,
) []*certificate {
	s.Helper()
	begin := time.Now()
	certs, err := order(ctx, names...)
	if err != nil {
		s.Fatalf("order %v: %v", names, err)
	}
	s.Logf("%v after %s", names, time.Since(begin).Round(time.Millisecond))
	if !hasAll(certs, names) || (len(certs) == 1) == (s.kind.eachName && len(names) > 1) {
		s.Fatalf("%d certificates do not have the names %v", len(certs), names)
	}
	for _, c := range certs {
		if err := c.verify(s.site.roots, strings.Replace(c.leaf.DNSNames[0], "*", "any", 1)); err != nil {
			s.Fatalf("certificate of %v: %v", names, err)
		}
	}
	return certs
}

// renew replaces the certificate of one name, and revokes the new one.
func (s *story) renew(ctx context.Context, names []string, first *certificate) {
	s.Helper()
	if first.leaf.NotAfter.Sub(first.leaf.NotBefore) > s.kind.longest && s.kind.longest > 0 {
		s.Logf("certificates of this target last longer than %s, so the client does not renew one today", s.kind.longest)
		return
	}
	renewed := s.issued(ctx, s.client.renew, names)[0]
	if renewed.leaf.SerialNumber.Cmp(first.leaf.SerialNumber) == 0 {
		s.Fatal("the renewed certificate is the first one")
	}
	if renewed.sameKey(first) != s.kind.keepsKey {
		s.Errorf("the renewed certificate has the same key: %t", !s.kind.keepsKey)
	}
	err := s.client.revoke(ctx, renewed)
	switch {
	case lacks(s.T, err):
		return
	case err != nil:
		s.Fatalf("revoke: %v", err)
	}
	if !s.site.revoked(s.T, renewed.leaf.SerialNumber) {
		s.Error("the certificate is not revoked")
	}
	if s.site.revoked(s.T, first.leaf.SerialNumber) {
		s.Error("the first certificate is revoked, too")
	}
}

// rollover changes the account key, and orders with the new one.
func (s *story) rollover(ctx context.Context) {
	s.Helper()
	err := s.client.rollover(ctx)
	switch {
	case lacks(s.T, err):
	case err != nil:
		s.Fatalf("change the account key: %v", err)
	default:
		s.issued(ctx, s.client.issue, s.site.names("rolled"))
	}
}

// refused checks that the client shows why an order is refused: at newOrder, and by the
// CA within seconds after finalize.
func (s *story) refused(ctx context.Context) {
	s.Helper()
	for _, r := range s.site.refusals {
		_, err := s.client.issue(ctx, s.site.names(r.label)...)
		switch {
		case err == nil:
			s.Errorf("%s was issued", r.label)
		case ctx.Err() != nil:
			s.Fatalf("the client did not end after the refusal of %s: %v", r.label, err)
		case !strings.Contains(unwrapped(err.Error()), r.detail):
			s.Errorf("the client does not show %q: %v", r.detail, err)
		}
	}
}

// unwrapped joins the lines into which a program breaks its messages.
func unwrapped(text string) string { return strings.Join(strings.Fields(text), " ") }
