package acmeserver_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// C19: the terms of service must be agreed to, and again when they change. A client that
// has not done so can order nothing, but it can do everything else.
func TestTermsOfService(t *testing.T) {
	t.Parallel()
	storage := acmeserver.NewMemory()
	at := func(terms string) http.Handler {
		return newServer(t, func(c *acmeserver.Config) { c.Storage, c.Terms = storage, terms })
	}
	const first, second = "https://example.com/terms/1", "https://example.com/terms/2"
	c := newRaw(t, at(first))
	for _, agreed := range []any{false, nil} {
		r := c.register(object{"termsOfServiceAgreed": agreed})
		p := r.refused(acme.UserActionRequired, http.StatusForbidden)
		if p.Instance != first || r.link("terms-of-service") != first || !strings.Contains(p.Detail, first) {
			t.Errorf("%s %v", r.body, r.header)
		}
	}
	if r := c.register(nil).want(http.StatusCreated); r.object()["termsOfServiceAgreed"] != true {
		t.Errorf("account: %s", r.body)
	}
	c = c.as(at(second))
	r := c.post(baseURL+"/new-order", object{})
	p := r.refused(acme.UserActionRequired, http.StatusForbidden)
	if p.Instance != second || r.link("terms-of-service") != second || !strings.Contains(p.Detail, second) {
		t.Errorf("%s %v", r.body, r.header)
	}
	c.register(object{"termsOfServiceAgreed": false}).want(http.StatusOK)
	c.post(c.kid+"/orders", nil).want(http.StatusOK)
	key := rawacme.NewKey()
	c.changeKey(key, nil).want(http.StatusOK)
	c.key = key
	agrees := func(sent bool) any {
		return c.post(c.kid, object{"termsOfServiceAgreed": sent}).want(http.StatusOK).object()["termsOfServiceAgreed"]
	}
	if got := agrees(false); got != nil {
		t.Errorf("termsOfServiceAgreed is %v", got)
	}
	c.post(baseURL+"/new-order", object{}).refused(acme.UserActionRequired, http.StatusForbidden)
	if got := agrees(true); got != true {
		t.Errorf("termsOfServiceAgreed is %v", got)
	}
	if r := c.post(baseURL+"/new-order", object{}); r.status == http.StatusForbidden {
		t.Errorf("after the agreement: %s", r.body)
	}
	c = c.as(at("")) // none any more
	if r := c.post(baseURL+"/new-order", object{}); r.status == http.StatusForbidden {
		t.Errorf("without terms: %s", r.body)
	}
}
