package admin_test

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// Applied grants count at once, for the next request and for renewals of earlier
// certificates. Pruned clients are refused (A21, A22, X14).
func TestApplyCountsAtOnce(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
	_, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	m := c.Register(t, "a.example.com")
	first := c.Bundle(t, m.ID, "")
	register := func(name string) proxytest.Reply {
		return c.Do(t, http.MethodPost, api.PathCertificates, api.CertificateRequest{Mode: clients.ModeAgent, Names: []string{name}})
	}

	narrow := admin.ApplyRequest{Clients: []admin.ClientSpec{proxytest.Spec("web1", "*.other.example")}}
	narrow.DryRun = true
	p.Apply(t, narrow)
	if r := register("a.example.com"); r.Status != http.StatusAccepted {
		t.Errorf("after a dry run: %d %s", r.Status, r.Body)
	}
	narrow.DryRun = false
	answer := p.Apply(t, narrow)
	if len(answer.Changes) != 1 || !slices.Equal(answer.Changes[0].Fields, []string{"grants"}) {
		t.Errorf("changes %+v", answer.Changes)
	}
	for _, name := range []string{"a.example.com", "b.example.com"} {
		if r := register(name); r.Status != http.StatusForbidden {
			t.Errorf("%s, which is not granted any more: %d %s", name, r.Status, r.Body)
		}
	}
	orders := p.CA.Requests().Count(pebbletest.NewOrder)
	clk.Advance(61 * 24 * time.Hour)
	p.Tick(t)
	watch.Until(t, "the renewal is refused", func() bool {
		m = c.Certificate(t, m.ID)
		return m.Failures > 0
	})
	if !strings.Contains(m.LastError, `a.example.com is not granted to client "web1"`) {
		t.Errorf("the renewal: %q", m.LastError)
	}
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != orders {
		t.Errorf("%d orders for what is not granted", n-orders)
	}
	if r := c.Bundle(t, m.ID, ""); r.ETag() != first.ETag() {
		t.Error("the old bundle is gone")
	}

	p.Apply(t, admin.ApplyRequest{Clients: []admin.ClientSpec{proxytest.Spec("web1", "*.example.com")}})
	clk.Advance(24 * time.Hour)
	p.Tick(t)
	if r := c.Bundle(t, m.ID, first.ETag()); r.ETag() == first.ETag() {
		t.Error("no new bundle when it is granted again")
	}

	answer = p.Apply(t, admin.ApplyRequest{Clients: []admin.ClientSpec{proxytest.Spec("web2", "*.example.com")}, Prune: true})
	if len(answer.Changes) != 2 || answer.Changes[0].Certificates != 1 {
		t.Errorf("changes %+v", answer.Changes)
	}
	if r := register("a.example.com"); r.Status != http.StatusUnauthorized {
		t.Errorf("a pruned client: %d %s", r.Status, r.Body)
	}
	trail, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "web1", Outcome: "done"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range trail.Entries {
		if strings.HasPrefix(e.Detail, "clients apply: ") {
			got = append(got, e.Addr+" "+e.Action+" "+e.Detail)
		}
	}
	want := []string{
		"admin client remove clients apply: with 1 certificate",
		"admin client change clients apply: grants: *.other.example (agent) → *.example.com (agent)",
		"admin client change clients apply: grants: *.example.com (agent) → *.other.example (agent)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("audit trail %q", got)
	}
}

// A host enrols while its client is applied repeatedly. In the end, it is enrolled and
// the client has the applied grants (A21, A22).
func TestApplyWhileEnrolling(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	token := p.AddClient(t, "web1", proxytest.Grant(clients.ModeGateway, "old.example.com"))
	_, recipient := proxytest.NewIdentity(t)
	want := proxytest.Spec("web1", "web1.example.com")
	want.Recipients = []string{recipient}
	enrolled := make(chan error, 1)
	dir := t.TempDir()
	go func() {
		_, err := remote.Enroll(t.Context(), dir, "test", token, remote.EnrollOptions{})
		enrolled <- err
	}()
	for done := false; !done; {
		select {
		case err := <-enrolled:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		default:
		}
		p.Apply(t, admin.ApplyRequest{Clients: []admin.ClientSpec{want}, Prune: true})
	}
	c, err := p.Admin.Client(t.Context(), "web1")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Recipients) != 2 || !slices.Contains(c.Recipients, recipient) || c.Grants[0].Names[0] != "web1.example.com" || len(c.Credentials) != 1 {
		t.Errorf("client %+v", c)
	}
}

// A request with very many clients may be larger than any other. All its faults are
// reported together, and then nothing is changed (A37).
func TestApplyBounds(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	var many []admin.ClientSpec
	for i := range 1500 {
		many = append(many, proxytest.Spec(fmt.Sprintf("host%d", i), fmt.Sprintf("host%d.example.com", i), strings.Repeat("a", 60)+".example.com"))
	}
	bad := slices.Clone(many)
	bad[7] = proxytest.Spec("a b", "*.com")
	bad[9] = admin.ClientSpec{Name: "none", Recipients: []string{"age1broken"}}
	_, err := p.Admin.Apply(t.Context(), admin.ApplyRequest{Clients: bad})
	var problem *api.Problem
	if !errors.As(err, &problem) || problem.Status != http.StatusUnprocessableEntity {
		t.Fatalf("bad clients: %v", err)
	}
	for _, want := range []string{`client "a b": name: `, `"*.com" covers a whole top-level domain`, `client "none": recipient 1: `, "grants: none given"} {
		if !strings.Contains(problem.Detail, want) {
			t.Errorf("%q is not in %q", want, problem.Detail)
		}
	}
	if all, err := p.Admin.Clients(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("after the refusal: %d clients, %v", len(all), err)
	}
	if answer := p.Apply(t, admin.ApplyRequest{Clients: many}); len(answer.Changes) != len(many) || answer.Changes[0].After == nil {
		t.Errorf("%d changes", len(answer.Changes))
	}
	if answer := p.Apply(t, admin.ApplyRequest{Clients: many}); len(answer.Changes) != 0 || answer.Unchanged != len(many) {
		t.Errorf("%d changes the second time", len(answer.Changes))
	}
	large := admin.Dial(filepath.Join(p.DataDir, admin.SocketName))
	_, err = large.Apply(t.Context(), admin.ApplyRequest{Clients: []admin.ClientSpec{{Name: strings.Repeat("x", admin.MaxApply)}}})
	if !errors.As(err, &problem) || problem.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("beyond the limit: %v", err)
	}
	_, err = large.AddClient(t.Context(), admin.NewClient{Name: strings.Repeat("x", api.MaxRequest)})
	if !errors.As(err, &problem) || problem.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("another request beyond the limit of all: %v", err)
	}
}
