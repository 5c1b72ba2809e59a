package acmeserver_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	goacme "golang.org/x/crypto/acme"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// C6, C18, C20: the account of a stock client: registered with a binding, found again,
// changed, with another key, and deactivated.
func TestGoClientAccount(t *testing.T) {
	t.Parallel()
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	defer server.Close()
	handler = newServer(t, func(c *acmeserver.Config) {
		c.URL = server.URL + "/acme"
		c.Terms = "https://example.com/terms"
		c.Accounts = &rules{
			requires: func(string) (bool, error) { return true, nil },
			keys:     map[string][]byte{"web1": hmacKey},
		}
	})
	ctx := t.Context()
	c := &goacme.Client{
		Key: rawacme.NewKey(), DirectoryURL: server.URL + "/acme/directory", HTTPClient: server.Client(),
	}
	dir, err := c.Discover(ctx)
	if err != nil || !dir.ExternalAccountRequired || dir.Terms != "https://example.com/terms" {
		t.Fatalf("directory %+v: %v", dir, err)
	}
	binding := &goacme.ExternalAccountBinding{KID: "web1", Key: hmacKey}
	wanted := &goacme.Account{Contact: []string{"mailto:a@example.com"}, ExternalAccountBinding: binding}
	a, err := c.Register(ctx, wanted, goacme.AcceptTOS)
	if err != nil || a.Status != goacme.StatusValid || len(a.Contact) != 1 {
		t.Fatalf("account %+v: %v", a, err)
	}
	if _, err := c.Register(ctx, wanted, goacme.AcceptTOS); !errors.Is(err, goacme.ErrAccountAlreadyExists) {
		t.Errorf("registered again: %v", err)
	}
	a.Contact = []string{"mailto:b@example.com"}
	if a, err = c.UpdateReg(ctx, a); err != nil || a.Contact[0] != "mailto:b@example.com" {
		t.Fatalf("account %+v: %v", a, err)
	}
	if err := c.AccountKeyRollover(ctx, rawacme.NewKey()); err != nil {
		t.Fatal(err)
	}
	found, err := c.GetReg(ctx, "")
	if err != nil || found.URI != a.URI {
		t.Fatalf("account %+v: %v", found, err)
	}
	if err := c.DeactivateReg(ctx); err != nil {
		t.Fatal(err)
	}
	_, err = c.GetReg(ctx, "")
	var refused *goacme.Error
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusUnauthorized {
		t.Errorf("deactivated: %v", err)
	}
}
