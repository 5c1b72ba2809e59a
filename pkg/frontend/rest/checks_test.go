package rest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// A client learns whether a CA could validate its own names, and nothing about others
// (X13). The proxy publishes a probe of its own and asks the CA nothing.
func TestChecks(t *testing.T) {
	t.Parallel()
	port, err := pebbletest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) {
		c.HTTPAddr, c.CheckHTTPPort = fmt.Sprintf("127.0.0.1:%d", port), port
		c.CheckResolvers = []string{"127.0.0.1:1"} // no test asks DNS outside
	}})
	c := p.NewCaller(t, "web1", nil, proxytest.Grant(clients.ModeGateway, "127.0.0.0/24", "wildcard:example.com"))
	ask := func(names ...string) proxytest.Reply {
		t.Helper()
		return c.Do(t, http.MethodPost, api.PathChecks, api.CheckRequest{Names: names})
	}

	r := ask("127.0.0.1", "127.0.0.9", "*.example.com")
	var report api.CheckReport
	if err := json.Unmarshal(r.Body, &report); err != nil || r.Status != http.StatusOK || len(report.Names) != 3 || report.Viewpoint == "" {
		t.Fatalf("%d %s, %v", r.Status, r.Body, err)
	}
	own, other, wildcard := report.Names[0].Checks[1], report.Names[1].Checks[1], report.Names[2].Checks[0]
	if own.Check != "http" || own.Verdict != "ok" || own.Address != "127.0.0.1" {
		t.Errorf("the proxy's own address: %+v", own)
	}
	if other.Verdict != "not checked" || !strings.Contains(other.Detail, "not connected to") {
		t.Errorf("another address of this host: %+v", other)
	}
	if wildcard.Verdict != "fails" || wildcard.By != api.ByProxyAdmin || !slices.Equal(report.Failing(), []string{"*.example.com"}) {
		t.Errorf("a wildcard without a DNS provider: %+v", wildcard)
	}
	if n := p.CA.Requests().Count(pebbletest.NewOrder); n != 0 {
		t.Errorf("%d orders", n)
	}
	if n := p.Answers(); n != 0 {
		t.Errorf("%d probes were left behind", n)
	}

	if r := ask("127.0.0.1", "www.example.net"); r.Status != http.StatusForbidden || !strings.Contains(r.Problem(t).Detail, "www.example.net is not granted") {
		t.Errorf("a name without a grant: %d %s", r.Status, r.Body)
	}
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Outcome: "refused", Limit: 10})
	if err != nil || len(page.Entries) != 1 || page.Entries[0].Action != "check" || !slices.Equal(page.Entries[0].Names, []string{"www.example.net"}) {
		t.Errorf("audit: %+v, %v", page.Entries, err)
	}
	for what, names := range map[string][]string{"none": {}, "an invalid one": {"a b"}, "too many": slices.Repeat([]string{"127.0.0.1"}, 17)} {
		if r := ask(names...); r.Status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", what, r.Status, r.Body)
		}
	}
	stranger := &proxytest.Caller{URL: c.URL, Token: "", HTTP: c.HTTP}
	if r := stranger.Do(t, http.MethodPost, api.PathChecks, api.CheckRequest{Names: []string{"127.0.0.1"}}); r.Status != http.StatusUnauthorized {
		t.Errorf("a stranger: %d %s", r.Status, r.Body)
	}

	// The rate counts names, not requests.
	var many []string
	for i := range api.MaxCheckNames {
		many = append(many, fmt.Sprintf("127.0.0.%d", 100+i))
	}
	status := 0
	for range 5 {
		if r = ask(many...); r.Status != http.StatusOK {
			status = r.Status
			break
		}
	}
	if status != http.StatusTooManyRequests || r.Header.Get("Retry-After") == "" {
		t.Errorf("many checks: %d %s", status, r.Body)
	}
}
