package admin_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// No operation ignores a part of its query, which a newer program may have meant as a
// selection (X43).
func TestQueryIsRefused(t *testing.T) {
	t.Parallel()
	h := admin.New(admin.Config{})
	for target, want := range map[string]string{
		"GET /certificates?naem=a.example.com":              `the parameter \"naem\" is unknown`,
		"GET /certificates?name=a&name=b":                   `the parameter \"name\" is given 2 times`,
		"GET /certificates?name=a;failing=true":             "query: it is not valid",
		"GET /certificates?failing=maybe":                   "failing: must be true or false",
		"GET /audit?mode=agent":                             `\"mode\" is unknown`,
		"GET /clients?name=web1":                            `\"name\" is unknown`,
		"GET /clients/web1?at=now":                          `\"at\" is unknown`,
		"GET /status?x":                                     `\"x\" is unknown`,
		"DELETE /clients/web1?dry_run=true":                 `\"dry_run\" is unknown`,
		"DELETE /certificates/a?dry_run=true":               `\"dry_run\" is unknown`,
		"POST /certificates/a/revoke?dry_run=true":          `\"dry_run\" is unknown`,
		"PUT /clients?dry_run=true":                         `\"dry_run\" is unknown`,
		"POST /reload?" + strings.Repeat("x", 100) + "=%07": `\"` + strings.Repeat("x", 32) + `\" is unknown`,
	} {
		method, path, _ := strings.Cut(target, " ")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		if status := w.Code; status != http.StatusBadRequest && !strings.Contains(target, "maybe") || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s, want %s", target, status, w.Body, want)
		}
	}
}

// A serve of an earlier version ignores selections that it does not know. Its answer is
// not taken for a narrower one (X43).
func TestServeIgnoresSelection(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /certificates", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"certificates":[{"id":"a","names":["other.example.com"],"mode":"agent"}]}`)
	})
	mux.HandleFunc("GET /audit", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"entries":[{"id":1,"action":"add","outcome":"done"}]}`)
	})
	a := dial(t, mux)
	for name, err := range map[string]error{
		"name":           second(a.Certificates(t.Context(), admin.CertificateQuery{Name: "a.example.com"})),
		"failing":        second(a.Certificates(t.Context(), admin.CertificateQuery{Failing: true})),
		"expires_before": second(a.Certificates(t.Context(), admin.CertificateQuery{ExpiresBefore: time.Now()})),
		"audit name":     second(a.Audit(t.Context(), admin.AuditQuery{Name: "a.example.com"})),
		"audit since":    second(a.Audit(t.Context(), admin.AuditQuery{Since: time.Now()})),
	} {
		if err == nil || !strings.Contains(err.Error(), "older than this program and cannot select by these values; restart") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if all, err := a.Certificates(t.Context(), admin.CertificateQuery{Client: "web1"}); err != nil || len(all) != 1 {
		t.Errorf("all of a client: %+v, %v", all, err)
	}
	if page, err := a.Audit(t.Context(), admin.AuditQuery{Client: "web1", Outcome: "done", Before: 9, Limit: 5}); err != nil || len(page.Entries) != 1 {
		t.Errorf("audit: %+v, %v", page, err)
	}
}

// A name that is part of a path, or very long, is no other request.
func TestOddClientNames(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	for _, name := range []string{".", "..", "../status", "%2e", "a?b", "a#b", "-", "*", "a\x1b[31m\n"} {
		_, err := p.Admin.Client(t.Context(), name)
		proxytest.WantStatus(t, "show "+name, err, http.StatusNotFound)
		_, err = p.Admin.RemoveClient(t.Context(), name)
		proxytest.WantStatus(t, "remove "+name, err, http.StatusNotFound)
		_, err = p.Admin.SetDisabled(t.Context(), name, true)
		proxytest.WantStatus(t, "disable "+name, err, http.StatusNotFound)
	}
	if _, err := p.Admin.RemoveClient(t.Context(), strings.Repeat("a", 2<<20)); err == nil || !strings.Contains(err.Error(), "too long; use a shorter one") {
		t.Errorf("long: %.200v", err)
	}
}

func second[T any](_ T, err error) error { return err }
