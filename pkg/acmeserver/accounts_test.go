package acmeserver_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// C6: newAccount creates an account once. Location is its URL, here and at the account.
func TestNewAccount(t *testing.T) {
	t.Parallel()
	storage := acmeserver.NewMemory()
	now := time.Unix(1_800_000_000, 0)
	var admitted []acmeserver.NewAccount
	c := newRaw(t, newServer(t, func(c *acmeserver.Config) {
		c.Storage = storage
		c.Now = func() time.Time { return now }
		c.Accounts = &rules{admit: func(a acmeserver.NewAccount) (string, error) {
			admitted = append(admitted, a)
			return "client 7", nil
		}}
	}))
	contacts := []string{"mailto:admin@example.com", "MAILTO:b@example.org"}
	ignored := object{"contact": contacts, "orders": "https://example.com", "status": "revoked", "id": 7}
	r := c.register(ignored).want(http.StatusCreated)
	a := r.object()
	if a["status"] != "valid" || a["orders"] != c.kid+"/orders" || len(a["contact"].([]any)) != 2 || len(a) != 3 {
		t.Errorf("account: %v", a)
	}
	thumbprint := rawacme.Thumbprint(c.key.Public())
	want := acmeserver.NewAccount{Thumbprint: thumbprint, Contacts: contacts, Addr: netip.MustParseAddr("192.0.2.1")}
	if len(admitted) != 1 || fmt.Sprint(admitted[0]) != fmt.Sprint(want) {
		t.Errorf("admitted %v instead of %v", admitted, want)
	}
	stored, err := storage.AccountByKey(t.Context(), thumbprint)
	if err != nil || stored.Owner != "client 7" || !stored.CreatedAt.Equal(now) || accountURL(stored) != c.kid {
		t.Errorf("stored: %+v %v", stored, err)
	}
	for _, again := range []object{nil, {"onlyReturnExisting": true}, {"contact": []string{"mailto:c@example.com"}}} {
		if got := c.register(again).want(http.StatusOK).object(); fmt.Sprint(got) != fmt.Sprint(a) {
			t.Errorf("again: %v", got)
		}
		if accountURL(stored) != c.kid || len(admitted) != 1 {
			t.Errorf("Location is %s, admitted %v", c.kid, admitted)
		}
	}
	for _, payload := range []any{nil, "{}"} {
		r := c.post(c.kid, payload).want(http.StatusOK)
		if r.header.Get("Location") != c.kid || r.object()["status"] != "valid" {
			t.Errorf("%v %s", r.header, r.body)
		}
	}
}

func accountURL(a acmeserver.Account) string { return baseURL + "/account/" + a.ID }

// C6: many requests at once create one account for a key.
func TestNewAccountRace(t *testing.T) {
	t.Parallel()
	c := newRaw(t, newServer(t, nil))
	var all sync.WaitGroup
	var created atomic.Int32
	var urls sync.Map
	for range 16 {
		all.Go(func() {
			other := c.as(c.h)
			if other.register(nil).status == http.StatusCreated {
				created.Add(1)
			}
			urls.Store(other.kid, true)
		})
	}
	all.Wait()
	n := 0
	urls.Range(func(any, any) bool { n++; return true })
	if created.Load() != 1 || n != 1 {
		t.Errorf("%d accounts created, %d URLs", created.Load(), n)
	}

	storage := &racing{Memory: acmeserver.NewMemory(), twice: true}
	c = newRaw(t, newServer(t, func(c *acmeserver.Config) { c.Storage = storage }))
	c.register(nil).want(http.StatusOK)
	a, err := storage.AccountByKey(t.Context(), rawacme.Thumbprint(c.key.Public()))
	if err != nil || c.kid != accountURL(a) {
		t.Errorf("Location is %s: %v", c.kid, err)
	}
}

// C6: onlyReturnExisting creates nothing, and a payload of another form is malformed.
func TestNewAccountRefused(t *testing.T) {
	t.Parallel()
	c := newRaw(t, newServer(t, nil))
	c.register(object{"onlyReturnExisting": true}).refused(acme.AccountDoesNotExist, http.StatusBadRequest)
	for _, payload := range []any{
		nil, "", "[]", `"x"`, "7", "{", `{"contact":"mailto:a@example.com"}`, `{"contact":[7]}`,
		`{"termsOfServiceAgreed":"true"}`, `{"onlyReturnExisting":1}`, "{}{}",
	} {
		c.post(baseURL+"/new-account", payload).refused(acme.Malformed, http.StatusBadRequest)
	}
	c.post(baseURL+"/at/unknown/new-account", object{}).refused(acme.Malformed, http.StatusNotFound)
	c.register(object{"onlyReturnExisting": true}).refused(acme.AccountDoesNotExist, http.StatusBadRequest)
}

// C6, RFC 8555, section 7.3: contacts are mail addresses, and few.
func TestContacts(t *testing.T) {
	t.Parallel()
	c := newRaw(t, newServer(t, func(c *acmeserver.Config) { c.Limits.Contacts = 3 }))
	for kind, contacts := range map[string][]string{
		acme.UnsupportedContact: {"tel:+4930123", "admin@example.com", "", "https://example.com", "mail"},
		acme.InvalidContact: {
			"mailto:", "mailto:a", "mailto:a@example.com?subject=x", "mailto:a@example.com,b@example.com",
			"mailto:A <a@example.com>", "mailto:<a@example.com>", "mailto: a@example.com", "mailto:a@example.com\x00",
			"mailto:a@\u202eexample.com", "mailto:" + strings.Repeat("a", 320) + "@example.com", "mailto://a@example.com ",
		},
	} {
		for _, contact := range contacts {
			c.register(object{"contact": []string{"mailto:a@example.com", contact}}).refused(kind, http.StatusBadRequest)
		}
	}
	four := slices.Repeat([]string{"mailto:a@example.com"}, 4)
	c.register(object{"contact": four}).refused(acme.InvalidContact, http.StatusBadRequest)
	c.register(object{"contact": four[:3]}).want(http.StatusCreated)
	c.post(c.kid, object{"contact": four}).refused(acme.InvalidContact, http.StatusBadRequest)
	c.post(c.kid, object{"contact": []string{"tel:7"}}).refused(acme.UnsupportedContact, http.StatusBadRequest)
}

// C6: contacts change, and nothing else does that the RFC tells a server to ignore.
func TestUpdateAccount(t *testing.T) {
	t.Parallel()
	c := newRaw(t, newServer(t, nil))
	c.register(object{"contact": []string{"mailto:a@example.com"}}).want(http.StatusCreated)
	contact := func() any { return c.post(c.kid, nil).want(http.StatusOK).object()["contact"] }
	ignored := object{"status": "valid", "orders": "x"}
	c.post(c.kid, rawacme.Changed(ignored, object{"contact": []string{"mailto:b@example.com"}})).want(http.StatusOK)
	if got := fmt.Sprint(contact()); got != "[mailto:b@example.com]" {
		t.Errorf("contact: %s", got)
	}
	c.post(c.kid, object{"termsOfServiceAgreed": true, "status": "revoked", "contact": nil}).want(http.StatusOK)
	if got := fmt.Sprint(contact()); got != "[mailto:b@example.com]" {
		t.Errorf("contact: %s", got)
	}
	c.post(c.kid, object{"contact": []string{}}).want(http.StatusOK)
	if got := contact(); got != nil {
		t.Errorf("contact: %v", got)
	}
	c.post(c.kid, object{"contact": 7}).refused(acme.Malformed, http.StatusBadRequest)
}

// C9: an account is its owner's only, and so is its list of orders.
func TestForeignAccount(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	c, other := newRaw(t, s), newRaw(t, s)
	c.register(nil).want(http.StatusCreated)
	other.register(nil).want(http.StatusCreated)
	for _, path := range []string{other.kid, other.kid + "/orders", baseURL + "/account/unknown"} {
		c.post(path, nil).refused(acme.Unauthorized, http.StatusForbidden)
		c.post(path, object{"status": "deactivated"}).refused(acme.Unauthorized, http.StatusForbidden)
	}
	other.post(other.kid, nil).want(http.StatusOK)
}

// C9: a kid that is no account of this server is accountDoesNotExist, so that clients
// register again.
func TestUnknownAccount(t *testing.T) {
	t.Parallel()
	c := newRaw(t, newServer(t, nil))
	c.register(nil).want(http.StatusCreated)
	url := c.kid
	for _, kid := range []string{
		baseURL + "/account/none", baseURL + "/account/", baseURL + "/account/\x00", url + "/", url + "/orders", url + "?",
		strings.Replace(url, "https:", "http:", 1), strings.Replace(url, "example", "sample", 1), strings.ToUpper(url), "x",
		baseURL + "/account/" + strings.Repeat("a", 65), baseURL + "/account/../account/" + url[len(baseURL)+9:],
	} {
		c.kid = kid
		c.post(url, nil).refused(acme.AccountDoesNotExist, http.StatusBadRequest)
	}
}

// C6: nothing that a deactivated account signs is accepted.
func TestDeactivate(t *testing.T) {
	t.Parallel()
	c := newRaw(t, newServer(t, nil))
	c.register(nil).want(http.StatusCreated)
	r := c.post(c.kid, object{"status": "deactivated", "contact": []string{"mailto:a@example.com"}}).want(http.StatusOK)
	if a := r.object(); a["status"] != "deactivated" || a["contact"] == nil {
		t.Errorf("account: %v", a)
	}
	url := c.kid
	for _, path := range []string{
		url, url + "/orders", baseURL + "/new-order", baseURL + "/key-change", baseURL + "/revoke-cert",
	} {
		c.post(path, nil).refused(acme.Unauthorized, http.StatusUnauthorized)
	}
	c.post(url, object{"status": "valid"}).refused(acme.Unauthorized, http.StatusUnauthorized)
	c.register(nil).refused(acme.Unauthorized, http.StatusUnauthorized)
}

// C6: a deactivation is not undone by a change that began before.
func TestUpdateOfDeactivated(t *testing.T) {
	t.Parallel()
	storage := &racing{Memory: acmeserver.NewMemory()}
	c := newRaw(t, newServer(t, func(c *acmeserver.Config) { c.Storage = storage }))
	c.register(nil).want(http.StatusCreated)
	storage.before = func(a acmeserver.Account) acmeserver.Account {
		storage.before = nil
		a.Status = acmeserver.StatusDeactivated
		return a
	}
	c.post(c.kid, object{"contact": []string{"mailto:a@example.com"}}).refused(acme.Unauthorized, http.StatusUnauthorized)
	c.post(c.kid, nil).refused(acme.Unauthorized, http.StatusUnauthorized)
}

// racing is a storage in which another request changes an account just before each
// update, until before is nil. If twice is set, another one creates each account before.
type racing struct {
	*acmeserver.Memory
	before func(acmeserver.Account) acmeserver.Account
	twice  bool
}

func (r *racing) CreateAccount(ctx context.Context, a acmeserver.Account, most int) error {
	if r.twice {
		other := a
		other.ID = "0" + a.ID[1:]
		if err := r.Memory.CreateAccount(ctx, other, most); err != nil {
			return err
		}
	}
	return r.Memory.CreateAccount(ctx, a, most)
}

func (r *racing) UpdateAccount(ctx context.Context, a acmeserver.Account) error {
	if before := r.before; before != nil {
		other, err := r.AccountByID(ctx, a.ID)
		if err = errors.Join(err, r.Memory.UpdateAccount(ctx, before(other))); err != nil {
			return err
		}
	}
	return r.Memory.UpdateAccount(ctx, a)
}

// C6: concurrent changes do not undo each other, and end.
func TestUpdateRace(t *testing.T) {
	t.Parallel()
	storage := &racing{Memory: acmeserver.NewMemory()}
	c := newRaw(t, newServer(t, func(c *acmeserver.Config) { c.Storage = storage }))
	c.register(object{"contact": []string{"mailto:a@example.com"}}).want(http.StatusCreated)
	key := rawacme.NewKey()
	storage.before = func(a acmeserver.Account) acmeserver.Account {
		storage.before = nil
		a.Contacts = []string{"mailto:b@example.com"}
		return a
	}
	c.changeKey(key, nil).want(http.StatusOK)
	c.key = key
	if got := fmt.Sprint(c.post(c.kid, nil).want(http.StatusOK).object()["contact"]); got != "[mailto:b@example.com]" {
		t.Errorf("contact: %s", got)
	}
	storage.before = func(a acmeserver.Account) acmeserver.Account { return a }
	c.post(c.kid, object{"contact": []string{}}).refused(acme.ServerInternal, http.StatusServiceUnavailable)
}

// C19: Accounts decides at each request about the account, with the caller's address.
func TestAllow(t *testing.T) {
	t.Parallel()
	var allow error
	c := newRaw(t, newServer(t, func(c *acmeserver.Config) {
		c.Accounts = &rules{allow: func(a acmeserver.Account, addr netip.Addr) error {
			if a.ID == "" || addr != netip.MustParseAddr("2001:db8::7") {
				return fmt.Errorf("account %q, address %s", a.ID, addr)
			}
			return allow
		}}
	}))
	c.addr = "[2001:db8::7]:443"
	c.register(nil).want(http.StatusCreated)
	c.register(nil).want(http.StatusOK)
	allow = &acme.Problem{Type: acme.Unauthorized, Detail: "the client is disabled"}
	c.register(nil).refused(acme.Unauthorized, http.StatusForbidden)
	allow = nil
	c.register(nil).want(http.StatusOK)
	allow = &acme.Problem{Type: acme.Unauthorized, Detail: "the client is disabled"}
	for _, path := range []string{c.kid, baseURL + "/new-order", baseURL + "/key-change", baseURL + "/revoke-cert"} {
		c.post(path, nil).refused(acme.Unauthorized, http.StatusForbidden)
	}
	// Without a new binding, an account whose owner is gone stays so.
	allow = &acme.Problem{Type: acme.AccountDoesNotExist, Detail: "the client is gone"}
	c.register(nil).refused(acme.AccountDoesNotExist, http.StatusBadRequest)
}

// C10: the caller's address is that of the connection, an IPv4 address as such. A unix
// socket has none.
func TestCallerAddress(t *testing.T) {
	t.Parallel()
	var got netip.Addr
	c := newRaw(t, newServer(t, func(c *acmeserver.Config) {
		c.Accounts = &rules{allow: func(_ acmeserver.Account, addr netip.Addr) error {
			got = addr
			return nil
		}}
	}))
	c.register(nil).want(http.StatusCreated)
	for addr, want := range map[string]netip.Addr{
		"192.0.2.1:1": netip.MustParseAddr("192.0.2.1"), "[::ffff:192.0.2.1]:443": netip.MustParseAddr("192.0.2.1"),
		"[fe80::1%eth0]:443": netip.MustParseAddr("fe80::1%eth0"), "2001:db8::7": netip.MustParseAddr("2001:db8::7"),
		"@": {}, "": {},
	} {
		c.addr = addr
		if c.post(c.kid, nil).want(http.StatusOK); got != want {
			t.Errorf("%q is %s", addr, got)
		}
	}
}

// C19: an owner has a limited number of accounts, and the answer is not 429, which
// clients would repeat.
func TestTooManyAccounts(t *testing.T) {
	t.Parallel()
	var refuse error
	storage := acmeserver.NewMemory()
	s := newServer(t, func(c *acmeserver.Config) {
		c.Storage, c.Limits.Accounts = storage, 2
		c.Accounts = &rules{admit: func(a acmeserver.NewAccount) (string, error) { return a.Addr.String(), refuse }}
	})
	first := newRaw(t, s)
	first.register(nil).want(http.StatusCreated)
	newRaw(t, s).register(nil).want(http.StatusCreated)
	third := newRaw(t, s)
	third.register(nil).refused(acme.RateLimit, http.StatusForbidden)
	first.register(nil).want(http.StatusOK)
	other := newRaw(t, s)
	other.addr = "192.0.2.2:1"
	other.register(nil).want(http.StatusCreated)
	first.post(first.kid, object{"status": "deactivated"}).want(http.StatusOK)
	third.register(nil).refused(acme.RateLimit, http.StatusForbidden) // until it is purged
	if _, err := storage.Purge(t.Context(), time.Now().Add(time.Second), 10); err != nil {
		t.Fatal(err)
	}
	third.register(nil).want(http.StatusCreated)
	refuse = &acme.Problem{Type: acme.Unauthorized, Detail: "not from this network"}
	other.key = rawacme.NewKey()
	other.register(nil).refused(acme.Unauthorized, http.StatusForbidden)
	other.register(object{"onlyReturnExisting": true}).refused(acme.AccountDoesNotExist, http.StatusBadRequest)
}
