package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

const recipient = "age1mm3kaqf64xc2ndu280m4vhqz7g9kaycfjnfy4czu7pss5pa46psq9sxvpy"

// someChecks replaces the checks of higher packages.
var someChecks = ClientChecks{
	Name: func(name string) error {
		if strings.ContainsAny(name, " \n") || name == "" {
			return fmt.Errorf("name: %q cannot name a client", name)
		}
		return nil
	},
	Grant: func(g clients.Grant) error {
		var faults []error
		if len(g.Names) == 0 {
			faults = append(faults, errors.New("names: none given; write some"))
		}
		for _, m := range g.Modes {
			if m != "agent" {
				faults = append(faults, fmt.Errorf("modes: unknown mode %q; write agent", m))
			}
		}
		return errors.Join(faults...)
	},
}

func readClients(text string) ([]Client, error) {
	return ReadClients("clients.yaml", strings.NewReader(text), someChecks)
}

func TestReadClients(t *testing.T) {
	got, err := readClients(`
clients:
  web2:
    grants: &standard
      - names: [web.example.com, "*.web.example.com"]
        modes: [agent]
        networks: [10.0.0.0/8, 192.0.2.1]
        key_types: ec256
        daily_quota: 10
      - {names: b.example.com, modes: agent}
  web1:
    disabled: true
    recipients:
      - ` + recipient + `
      - >
        ` + recipient + `
    grants: *standard
`)
	if err != nil {
		t.Fatal(err)
	}
	grants := []clients.Grant{
		{Names: []string{"web.example.com", "*.web.example.com"}, Modes: []clients.Mode{"agent"}, Networks: []string{"10.0.0.0/8", "192.0.2.1"}, KeyTypes: []string{"ec256"}, DailyQuota: 10},
		{Names: []string{"b.example.com"}, Modes: []clients.Mode{"agent"}},
	}
	want := []Client{{Name: "web2", Grants: grants}, {Name: "web1", Disabled: true, Recipients: []string{recipient, recipient}, Grants: grants}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if got, err := readClients("clients: {}\n"); err != nil || len(got) != 0 {
		t.Errorf("no clients: %v, %v", got, err)
	}
}

// A37: all faults are reported together, each with its line.
func TestReadClientsFaults(t *testing.T) {
	for _, tc := range []struct {
		text string
		want []string
	}{
		// An empty file must not mean "no clients": with --prune it would remove all.
		{"", []string{"clients.yaml: clients: is missing; write the clients below it, or clients: {} for none"}},
		{"# nothing\n", []string{"clients.yaml: clients: is missing;"}},
		{"clients:\n", []string{"clients.yaml:1: clients: this is empty; write the name of each client as a key, or {} for none"}},
		{"clients: []\n", []string{"clients.yaml:1: clients: this is a list; write the name"}},
		{"- web1\n", []string{"clients.yaml:1: write the clients below a line clients:"}},
		{"client: {}\nclients: {}\n", []string{"clients.yaml:1: client: unknown key; did you mean clients?"}},
		{"clients: {}\nclients: {}\n", []string{"clients.yaml:2: clients: also set on line 1; keep one of the two"}},
		{"clients: {}\n---\nclients: {}\n", []string{"clients.yaml: holds several YAML documents;"}},
		{"clients: [\n", []string{"clients.yaml:2: not YAML: "}},
		{"clients:\n  web1:\n", []string{"clients.yaml:2: clients.web1: this is empty; write keys such as grants:"}},
		{"clients:\n  web1: {}\n", []string{"clients.yaml:2: clients.web1.grants: is missing;"}},
		{"clients:\n  web1: {grants: []}\n", []string{"clients.yaml:2: clients.web1.grants: is an empty list; write one grant"}},
		{"clients:\n  web1: {grants: a.example.com}\n", []string{"clients.yaml:2: clients.web1.grants: this is text; write a list of grants"}},
		{"clients:\n  web1: {grants: [a.example.com]}\n", []string{"clients.yaml:2: clients.web1.grants[0]: this is text; write keys such as names:"}},
		{"clients:\n  7: {grants: [{names: a, modes: agent}]}\n  true: {}\n", []string{
			"clients.yaml:2: clients.7: a name must be text; write it in quotes", "clients.yaml:3: clients.true: a name must be text",
		}},
		{"clients:\n  a b: {grants: [{names: a, modes: agent}]}\n", []string{`clients.yaml:2: clients.a b: name: "a b" cannot name a client`}},
		{
			"clients:\n  web1: &c\n    grants: [{names: a, modes: agent}]\n  web1: *c\n",
			[]string{"clients.yaml:4: clients.web1: also set on line 2; keep one of the two"},
		},
		{`
clients:
  web1:
    disable: true
    recipient: x
    disabled: "true"
    recipients: [age1broken]
    grants:
      - name: a.example.com
        modes: {}
        key-types: [ec256]
        networks: []
        daily_quota: 1.5
      - modes: [agent, sometimes]
      - names: [a.example.com, [b]]
        names: a.example.com
        daily_quota: 0x10
        modes: 7
  web2: [a]
`, []string{
			"clients.yaml:4: clients.web1.disable: unknown key; did you mean disabled?",
			"clients.yaml:5: clients.web1.recipient: unknown key; did you mean recipients?",
			"clients.yaml:6: clients.web1.disabled: this is text; write true or false, without quotes",
			"clients.yaml:7: clients.web1.recipients: recipient 1: not an X25519 recipient",
			"clients.yaml:9: clients.web1.grants[0].name: unknown key; did you mean names?",
			"clients.yaml:10: clients.web1.grants[0].modes: this is a group of keys; write agent, gateway, acme or challenge, or several of them",
			"clients.yaml:11: clients.web1.grants[0].key-types: unknown key; did you mean key_types?",
			"clients.yaml:12: clients.web1.grants[0].networks: is an empty list; write networks such as 10.1.0.0/16, or remove the line to allow all",
			"clients.yaml:13: clients.web1.grants[0].daily_quota: this is a number; write a whole number",
			"clients.yaml:14: clients.web1.grants[1].names: none given; write some",
			`clients.yaml:14: clients.web1.grants[1].modes: unknown mode "sometimes"; write agent`,
			"clients.yaml:15: clients.web1.grants[2].names[1]: this is a list; write names such as web1.example.com",
			"clients.yaml:16: clients.web1.grants[2].names: also set on line 15; keep one of the two",
			"clients.yaml:17: clients.web1.grants[2].daily_quota: write a whole number, in decimal digits only",
			"clients.yaml:18: clients.web1.grants[2].modes: this is a number; write agent, gateway, acme or challenge, or several of them",
			"clients.yaml:19: clients.web2: this is a list; write keys such as grants:",
		}},
	} {
		got, err := readClients(tc.text)
		if err == nil {
			t.Errorf("%q was read as %v", tc.text, got)
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(tc.want) {
			t.Errorf("%d faults, want %d:\n%v", len(lines), len(tc.want), err)
		}
		for _, want := range tc.want {
			if !strings.Contains("\n"+err.Error(), "\n"+want) {
				t.Errorf("%q: no line begins with %q:\n%v", tc.text, want, err)
			}
		}
	}
}

// A file that is too large, or becomes too large by aliases, is refused quickly.
func TestReadClientsBounds(t *testing.T) {
	var many, faulty strings.Builder
	many.WriteString("clients:\n")
	faulty.WriteString("clients:\n")
	for i := range maxClients {
		fmt.Fprintf(&many, " c%d: {grants: [{names: a, modes: agent}]}\n", i)
		fmt.Fprintf(&faulty, " c%d: {}\n", i)
	}
	if got, err := readClients(many.String()); err != nil || len(got) != maxClients {
		t.Errorf("%d clients, %v", len(got), err)
	}
	var aliases strings.Builder
	aliases.WriteString("clients:\n c: {grants: &g [&x {names: [" + strings.Repeat("a,", 1000) + "], modes: agent}" + strings.Repeat(",*x", 10_000) + "]}\n")
	for i := range 100 {
		fmt.Fprintf(&aliases, " c%d: {grants: *g}\n", i)
	}
	for what, tc := range map[string]struct{ text, want string }{
		"one too many": {many.String() + " more: {}\n", "20001 clients are too many; the limit is 20000"},
		"large":        {strings.Repeat("#", maxClientsFile+1), "larger than 16 MiB; is it the right file?"},
		"faults":       {faulty.String(), "clients.yaml: and 19900 faults more"},
		"aliases":      {aliases.String(), "aliases make this file too large; use fewer of them"},
	} {
		got, err := readClients(tc.text)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %d clients, %.300v; want %q", what, len(got), err, tc.want)
		}
		if err != nil && strings.Count(err.Error(), "\n") > maxFaults {
			t.Errorf("%s: %d lines", what, strings.Count(err.Error(), "\n"))
		}
	}
}

// A written file reads back, as YAML and as JSON.
func TestClientsRoundTrip(t *testing.T) {
	clients := []Client{
		{Name: "1e3", Grants: []clients.Grant{{Names: []string{"*.a.example.com", "192.0.2.0/24", "true"}, Modes: []clients.Mode{"agent"}}}},
		{Name: "web1", Disabled: true, Recipients: []string{recipient}, Grants: []clients.Grant{
			{Names: []string{"**.b.example.com"}, Modes: []clients.Mode{"agent"}, Networks: []string{"10.0.0.0/8", "2001:db8::/32"}, KeyTypes: []string{"ec256", "rsa2048"}, DailyQuota: 10},
			{Names: []string{"wildcard:b.example.com"}, Modes: []clients.Mode{"agent", "agent"}},
		}},
		{Name: "yes", Grants: []clients.Grant{{Names: []string{"#"}, Modes: []clients.Mode{"agent"}}}},
	}
	for _, list := range [][]Client{clients, {}} {
		var asYAML bytes.Buffer
		if err := NewClientsFile(list).WriteYAML(&asYAML); err != nil {
			t.Fatal(err)
		}
		asJSON, err := json.Marshal(NewClientsFile(list))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{asYAML.String(), string(asJSON)} {
			got, err := readClients(text)
			if err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
			if d := cmp.Diff(list, got); d != "" {
				t.Errorf("-want +got:\n%s\nof:\n%s", d, text)
			}
		}
	}
}

// The file comes from outside. Each file is either read or reported. A file that is
// read obeys the rules and does not change when it is written and read again. Each
// fault is one line that names the file.
func FuzzReadClients(f *testing.F) {
	for _, seed := range []string{
		"", "clients:\n", "clients: {}\n", "clients: {web1: {grants: [{names: a.example.com, modes: agent}]}}\n",
		"clients:\n  web1:\n    disabled: true\n    recipients: [" + recipient + "]\n    grants:\n      - names: [a, b]\n        modes: [agent]\n        networks: [10.0.0.0/8]\n        key_types: [ec256]\n        daily_quota: 10\n",
		"clients: &c {a: *c}\n", "clients:\n a: {grants: &g [{names: x, modes: agent}, *g]}\n b: {grants: *g}\n", "clients: {a: {}, a: {}}\n",
		"clients: {7: {}, ? [a] : {}, <<: {a: b}}\n", "clients:\n  a: {grants: [{networks: [], daily_quota: 99999999999999999999}]}\n",
		"clients: !!map {}\n---\n", "clients: !!str x\n", "\xff\xfe", "clients: {\"a\\nb\": 1}\n", "clients: {a: {disabled: !!bool x}}\n", "a: &a [*a, *a]\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		clients, err := readClients(text)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "clients.yaml:") {
					t.Errorf("a fault has a line that does not name the file: %q", line)
				}
			}
			return
		}
		seen := map[string]bool{}
		for _, c := range clients {
			if seen[c.Name] || someChecks.Name(c.Name) != nil || len(c.Grants) == 0 {
				t.Errorf("accepted %+v", c)
			}
			seen[c.Name] = true
			for _, g := range c.Grants {
				if err := someChecks.Grant(g); err != nil {
					t.Errorf("accepted %+v: %v", g, err)
				}
			}
		}
		var again bytes.Buffer
		if err := NewClientsFile(clients).WriteYAML(&again); err != nil {
			t.Fatal(err)
		}
		got, err := readClients(again.String())
		if err != nil || len(got) != len(clients) {
			t.Errorf("read back: %v in\n%s", err, again.String())
		}
	})
}
