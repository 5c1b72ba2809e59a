package policy

import (
	"slices"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// A grant limits profiles and the number of names, and no two grants are combined (X26).
func TestGrantLimits(t *testing.T) {
	t.Parallel()
	g := grant("*.a.example")
	g.Profiles, g.MaxNames = []string{"shortlived", clients.ProfileDefault}, 2
	id := identity("", g)
	for _, profile := range []string{"", "shortlived"} {
		r := request("x.a.example", "y.a.example")
		if r.Profile = profile; allow(id, r) != nil {
			t.Errorf("profile %q: %v", profile, allow(id, r))
		}
	}
	r := request("x.a.example")
	r.Profile = "classic\x1b[31m"
	wantDenied(t, allow(id, r), "profile", `"classic\x1b[31m" is not granted`)
	three := request("x.a.example", "y.a.example", "z.a.example", "x.a.example")
	wantDenied(t, allow(id, three), "names", "at most 2 in one certificate, not 3")
	wantDenied(t, allowRenewal(id, three), "names", "at most 2")
	for _, purpose := range []Request{three, r} {
		if purpose.Purpose = Revocation; allow(id, purpose) != nil {
			t.Errorf("a revocation: %v", allow(id, purpose))
		}
	}
	id.Client.Grants[0].Profiles = []string{"shortlived"}
	wantDenied(t, allow(id, request("x.a.example")), "profile", "may not leave the profile to the CA")
	ordered := request("x.a.example")
	ordered.Profile, ordered.KeyType, ordered.Purpose = "shortlived", "", Order
	id.Client.Grants[0].KeyTypes = []string{"rsa2048"}
	if err := allow(id, ordered); err != nil {
		t.Errorf("an order without a key: %v", err)
	}
	ordered.Purpose = Issuance
	wantDenied(t, allow(id, ordered), "key_type", "")
	id.Client.Grants = append(id.Client.Grants, grant("x.a.example"))
	if err := allow(id, request("x.a.example")); err != nil {
		t.Errorf("another grant covers all: %v", err)
	}
}

// Each grant says what it does not cover (X26).
func TestExplain(t *testing.T) {
	t.Parallel()
	first, second := grant("*.a.example"), grant("*.b.example")
	first.Modes, first.MaxNames, first.Networks = []clients.Mode{clients.ModeACME}, 1, []string{"10.0.0.0/8"}
	second.KeyTypes, second.Profiles, second.DailyQuota = []string{"rsa2048"}, []string{"shortlived"}, 7
	id := identity("192.0.2.1", first, second)
	e := Explain(id, request("x.b.example", "y.b.example"))
	if e.Denied == nil || len(e.Verdicts) != 2 {
		t.Fatalf("%+v", e)
	}
	if want := []string{
		"does not cover x.b.example, y.b.example", "is not for mode agent, but for acme",
		"is for at most 1 in one certificate, not 2", "is for 10.0.0.0/8, not 192.0.2.1",
	}; !slices.Equal(e.Verdicts[0].Faults, want) {
		t.Errorf("first grant: %q", e.Verdicts[0].Faults)
	}
	if want := []string{"is for keys of type rsa2048, not ec256", "is for profile shortlived, not default"}; !slices.Equal(e.Verdicts[1].Faults, want) {
		t.Errorf("second grant: %q", e.Verdicts[1].Faults)
	}
	allowed := request("x.b.example")
	allowed.KeyType, allowed.Profile = cert.RSA2048, "shortlived"
	if e := Explain(id, allowed); e.Denied != nil || e.Quota != 7 || len(e.Verdicts[1].Faults) != 0 || len(e.Verdicts[0].Faults) == 0 {
		t.Errorf("allowed: %+v", e)
	}
	if e := Explain(id, request("a b")); e.Denied == nil || e.Denied.Field != "names" || len(e.Verdicts) != 0 {
		t.Errorf("no name: %+v", e)
	}
	id.Client.Disabled = true
	if e := Explain(id, allowed); e.Denied == nil || e.Denied.Field != "client" || len(e.Verdicts) != 0 {
		t.Errorf("disabled: %+v", e)
	}
}
