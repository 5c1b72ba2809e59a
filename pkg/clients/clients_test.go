package clients_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// Each mode that a grant may allow is listed, and no other.
func TestGrantableModes(t *testing.T) {
	listed := map[clients.Mode]bool{}
	for _, m := range clients.GrantableModes() {
		listed[m] = true
	}
	for _, m := range []clients.Mode{clients.ModeClient, clients.ModeAgent, clients.ModeGateway, clients.ModeACME, clients.ModeChallenge, "unknown", ""} {
		if m.IsGrantable() != listed[m] {
			t.Errorf("mode %q: grantable %v, listed %v", m, m.IsGrantable(), listed[m])
		}
	}
}

// A person may use the full name of a mode, in its exact spelling.
func TestCanonicalMode(t *testing.T) {
	for text, want := range map[clients.Mode]clients.Mode{
		"certificate-agent": clients.ModeAgent, "acme-gateway": clients.ModeGateway, "acme-client": clients.ModeClient,
		"agent": "agent", "gateway": "gateway", "client": "client", "Agent": "Agent", "": "",
	} {
		if got := text.Canonical(); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// The gateway stores no names.
func TestGatewayKeepsNothing(t *testing.T) {
	if p := clients.ModeGateway.Properties(); p.KeepsNames || p.OwnsNames || p.Unattended {
		t.Errorf("%+v", p)
	}
	if p := clients.Mode("unknown").Properties(); p != (clients.ModeProperties{}) {
		t.Errorf("an unknown mode has the properties %+v", p)
	}
}

// A grant is the same in the API's JSON and in a file of clients.
func TestGrantEncodings(t *testing.T) {
	want := clients.Grant{
		Names: []string{"*.example.com"}, Modes: []clients.Mode{clients.ModeAgent}, Networks: []string{"10.0.0.0/8"},
		KeyTypes: []string{"ec256"}, Profiles: []string{"default"}, MaxNames: 2, DailyQuota: 3,
	}
	var fromJSON, fromYAML clients.Grant
	asJSON, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(asJSON, &fromJSON); err != nil || !fromJSON.Equal(want) {
		t.Errorf("JSON: %+v, %v", fromJSON, err)
	}
	if err := yaml.Unmarshal(asJSON, &fromYAML); err != nil || !fromYAML.Equal(want) {
		t.Errorf("the same as YAML: %+v, %v", fromYAML, err)
	}
	for what, change := range map[string]func(*clients.Grant){
		"quota":           func(g *clients.Grant) { g.DailyQuota++ },
		"number of names": func(g *clients.Grant) { g.MaxNames++ },
		"profile":         func(g *clients.Grant) { g.Profiles = []string{"shortlived"} },
	} {
		other := want
		if change(&other); other.Equal(want) {
			t.Errorf("another %s makes no difference", what)
		}
	}
}

func ExampleMode_Properties() {
	for _, m := range clients.GrantableModes() {
		fmt.Println(m, "renews unattended:", m.IsUnattended())
	}
	// Output:
	// agent renews unattended: true
	// gateway renews unattended: false
	// acme renews unattended: false
	// challenge renews unattended: false
}
