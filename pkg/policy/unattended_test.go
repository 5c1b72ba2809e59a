package policy

import (
	"slices"
	"testing"
)

// A22: a renewal needs no address. All other conditions apply.
func TestAllowRenewal(t *testing.T) {
	g := grant("a.example")
	g.Networks, g.KeyTypes = []string{"192.0.2.0/24"}, []string{"ec256"}
	id := identity("", g)
	wantDenied(t, allow(id, request("a.example")), "source")
	if err := allowRenewal(id, request("a.example")); err != nil {
		t.Error(err)
	}
	if !slices.Equal(id.Client.Grants[0].Networks, g.Networks) {
		t.Error("the caller's grants are changed")
	}
	wantDenied(t, allowRenewal(id, request("b.example")), "names")
	rsa := request("a.example")
	rsa.KeyType = "rsa2048"
	wantDenied(t, allowRenewal(id, rsa), "key_type")
	id.Client.Disabled = true
	wantDenied(t, allowRenewal(id, request("a.example")), "client")
	wantDenied(t, allowRenewal(identity(""), request("a.example")), "client")
}
