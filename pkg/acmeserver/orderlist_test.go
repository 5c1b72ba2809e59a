package acmeserver_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// storedOrder returns an order for a test of lists.
func storedOrder(account string, i int, status acmeserver.Status) acmeserver.Order {
	created := time.Unix(1_800_000_000, 0).Add(time.Duration(i) * time.Second)
	id := acme.Identifier{Type: acme.TypeDNS, Value: "a.example.com"}
	return acmeserver.Order{
		ID: fmt.Sprintf("order%d", i), AccountID: account, Status: status,
		CreatedAt: created, Expires: created.Add(time.Hour),
		Identifiers:    []acme.Identifier{id},
		Authorizations: []acmeserver.Authorization{{Identifier: id, Status: acmeserver.StatusPending}},
	}
}

// C6: the list of orders has pages, and links each to the next one. It has no orders
// that are invalid, or another account's.
func TestOrderList(t *testing.T) {
	t.Parallel()
	storage := acmeserver.NewMemory()
	c := newRaw(t, newServer(t, func(c *acmeserver.Config) { c.Storage = storage }))
	c.register(nil).want(http.StatusCreated)
	list := c.kid + "/orders"
	if r := c.post(list, nil).want(http.StatusOK); string(r.body) != `{"orders":[]}`+"\n" || r.link("next") != "" {
		t.Errorf("%s %v", r.body, r.header)
	}
	account := strings.TrimPrefix(c.kid, baseURL+"/account/")
	want := []string{}
	for i := range 250 {
		o := storedOrder(account, i, acmeserver.StatusPending)
		switch i % 10 {
		case 3:
			o.Status = acmeserver.StatusInvalid
		case 4:
			o.AccountID = "other"
		default:
			want = append(want, baseURL+"/order/"+o.ID)
		}
		if err := storage.CreateOrder(t.Context(), o, 0); err != nil {
			t.Fatal(err)
		}
	}
	slices.Reverse(want)
	var got []string
	pages := 0
	for page := list; page != ""; pages++ {
		r := c.post(page, nil).want(http.StatusOK)
		var l struct{ Orders []string }
		r.decode(&l)
		if len(l.Orders) > 100 {
			t.Errorf("a page of %d", len(l.Orders))
		}
		got = append(got, l.Orders...)
		page = r.link("next")
	}
	if !slices.Equal(got, want) || pages != 2 {
		t.Errorf("%d pages with %d orders instead of %d", pages, len(got), len(want))
	}
	c.post(list, object{}).refused(acme.Malformed, http.StatusBadRequest)
	for _, after := range []string{"\x00", "A", "../x", strings.Repeat("a", 65), "'--"} {
		c.post(list+"?"+url.Values{"after": {after}}.Encode(), nil).refused(acme.Malformed, http.StatusNotFound)
	}
	c.post(list+"?after=none", nil).want(http.StatusOK)
}
