package checks_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/checks"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/preflight"
)

// rig holds Checks whose checker only notes the names.
type rig struct {
	*checks.Checks
	checked [][]string
	refused []string      // names
	block   chan struct{} // if not nil, checks wait for it
}

func newRig() *rig {
	r := &rig{}
	r.Checks = checks.New(checks.Config{
		Authorize: func(_ context.Context, a audit.Ask) error {
			_, err := policy.Decide(a.By, a.Request)
			if err != nil {
				r.refused = append(r.refused, a.Request.Names...)
			}
			return err
		},
		Run: func(ctx context.Context, names []string) (preflight.Report, error) {
			r.checked = append(r.checked, names)
			if r.block != nil {
				select {
				case <-r.block:
				case <-ctx.Done():
					return preflight.Report{}, ctx.Err()
				}
			}
			return preflight.Report{}, nil
		},
	})
	return r
}

func client(id string, patterns ...string) clients.Identity {
	return clients.Identity{Client: clients.Client{ID: id, Name: id, Grants: []clients.Grant{
		{Names: patterns, Modes: []clients.Mode{clients.ModeGateway}, Networks: []string{"10.0.0.0/8"}},
		{Names: []string{"other.example.org"}, Modes: []clients.Mode{clients.ModeAgent}, KeyTypes: []string{"rsa2048"}},
	}}, Addr: netip.MustParseAddr("10.1.2.3")}
}

// Each name must be granted, in any grant and mode, from the client's network. No name
// is checked if one is refused (A22).
func TestGrants(t *testing.T) {
	t.Parallel()
	r := newRig()
	id := client("web1", "*.example.com")
	if _, err := r.Check(t.Context(), id, []string{"A.example.com", "other.example.org", "a.example.com"}); err != nil {
		t.Error(err)
	}
	if len(r.checked) != 1 || !slices.Equal(r.checked[0], []string{"a.example.com", "other.example.org"}) {
		t.Errorf("checked %q", r.checked)
	}
	var denied *policy.Denied
	if _, err := r.Check(t.Context(), id, []string{"a.example.com", "www.example.net"}); !errors.As(err, &denied) || denied.Field != "names" {
		t.Errorf("a name without a grant: %v", err)
	}
	id.Addr = netip.MustParseAddr("192.0.2.1")
	if _, err := r.Check(t.Context(), id, []string{"b.example.com"}); !errors.As(err, &denied) || denied.Field != "source" {
		t.Errorf("from another network: %v", err)
	}
	id.Client.Disabled = true
	if _, err := r.Check(t.Context(), id, []string{"c.example.com"}); !errors.As(err, &denied) || denied.Field != "client" {
		t.Errorf("disabled: %v", err)
	}
	if len(r.checked) != 1 || !slices.Equal(r.refused, []string{"www.example.net", "b.example.com", "c.example.com"}) {
		t.Errorf("checked %q, refused %q", r.checked, r.refused)
	}
}

func TestInvalidNames(t *testing.T) {
	t.Parallel()
	r := newRig()
	many := make([]string, api.MaxCheckNames+1)
	for i := range many {
		many[i] = fmt.Sprintf("a%d.example.com", i)
	}
	for want, names := range map[string][]string{
		"missing":             nil,
		"17 are too many":     many,
		`"a b" is not a DNS`:  {"a.example.com", "a b"},
		"has one label only":  {"localhost"},
		`"x\x00.example.com"`: {"x\x00.example.com"},
	} {
		var field *cert.FieldError
		if _, err := r.Check(t.Context(), client("web1", "**.example.com"), names); !errors.As(err, &field) || field.Field != "names" || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", names, err, want)
		}
	}
	if len(r.checked)+len(r.refused) > 0 {
		t.Errorf("checked %q, refused %q", r.checked, r.refused)
	}
}

// A client has one check at a time and a rate of names. Both are its own (X42).
func TestLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		id, other := client("web1", "*.example.com"), client("web2", "*.example.com")
		tooSoon := func(what string, err error, reason string, wait time.Duration) {
			t.Helper()
			var soon *audit.TooSoon
			if !errors.As(err, &soon) || !strings.Contains(soon.Reason, reason) || time.Until(soon.RetryAt) != wait {
				t.Errorf("%s: %v, want %q in %v", what, err, reason, wait)
			}
		}
		names := make([]string, api.MaxCheckNames)
		for i := range names {
			names[i] = fmt.Sprintf("a%d.example.com", i)
		}
		for range 4 {
			if _, err := r.Check(t.Context(), id, names); err != nil {
				t.Fatal(err)
			}
		}
		_, err := r.Check(t.Context(), id, names[:2])
		tooSoon("too many names", err, "many names", 20*time.Second)
		if _, err := r.Check(t.Context(), other, names); err != nil {
			t.Errorf("another client: %v", err)
		}
		time.Sleep(20 * time.Second)
		if _, err := r.Check(t.Context(), id, names[:2]); err != nil {
			t.Errorf("after the wait: %v", err)
		}

		time.Sleep(time.Hour)
		r.block = make(chan struct{})
		first := make(chan error)
		go func() {
			_, err := r.Check(t.Context(), id, names[:1])
			first <- err
		}()
		synctest.Wait()
		_, err = r.Check(t.Context(), id, names[:1])
		tooSoon("a second check at once", err, "in progress", 5*time.Second)
		// A check that hangs ends.
		began := time.Now()
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != api.MaxCheck {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// The proxy connects to public addresses and to its own only, in every spelling of
// an address, so that no client learns about internal servers.
func TestRefuse(t *testing.T) {
	t.Parallel()
	own := func(a netip.Addr) bool { return a == netip.MustParseAddr("10.0.0.5") }
	for _, addr := range []string{"8.8.8.8", "2a00:1450::1", "10.0.0.5", "::ffff:10.0.0.5", "::ffff:8.8.8.8"} {
		if why := checks.Refuse(netip.MustParseAddr(addr), own); why != "" {
			t.Errorf("%s: %s", addr, why)
		}
	}
	for _, addr := range []string{
		"127.0.0.1", "10.0.0.6", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "192.0.0.8",
		"::1", "::", "fe80::1", "fd00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:6", "64:ff9b:1::a00:6", "2002:a00:6::1", "::a00:6", "fec0::1", "2001::1",
	} {
		if why := checks.Refuse(netip.MustParseAddr(addr), own); why == "" {
			t.Errorf("%s is connected to", addr)
		}
	}
}
