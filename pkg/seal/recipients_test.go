package seal_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/sshtest"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// One key has one spelling, whatever stands around it (X9).
func TestCanonical(t *testing.T) {
	x, host, r := x25519(t).public, sshEd25519(t).public, sshRSA(t).public
	_, base64, _ := strings.Cut(host, " ")
	spellings := map[string][]string{
		x:    {x, " " + x + "\n"},
		host: {host, host + " root@web1", host + "\troot@web1 \x1b[2J", "  " + host + "  ", "ssh-ed25519   " + base64},
		r:    {r, r + " a b c"},
	}
	var all []string
	for want, lines := range spellings {
		for _, line := range lines {
			if got, err := seal.Canonical(line); err != nil || got != want {
				t.Errorf("%q: %q, %v; want %q", line, got, err, want)
			}
			if i := seal.FindRecipient([]string{"other", want}, line); i != 1 {
				t.Errorf("%q is not found: %d", line, i)
			}
		}
		all = append(all, lines...)
	}
	if got := seal.CanonicalList(all); len(got) != len(spellings) {
		t.Errorf("%d recipients, want %d: %q", len(got), len(spellings), got)
	}
	if got := seal.CanonicalList([]string{"odd", x, "odd", host + " a", x, host}); !slices.Equal(got, []string{"odd", x, host}) {
		t.Errorf("%q", got)
	}
	if got, err := seal.Canonical("ssh-ed25519 AAAA"); err == nil {
		t.Errorf("%q", got)
	}
}

// New recipients have RSA keys of at most 4096 bits, which is known before anything
// is encrypted to them; those that the client has already may stay (X9, X41).
func TestCheckNew(t *testing.T) {
	large, small, x := sshtest.RSALine(t, 4104), sshtest.RSALine(t, 4096), x25519(t).public
	if err := seal.CheckNew([]string{small, x, small + " again"}, nil); err != nil {
		t.Error(err)
	}
	err := seal.CheckNew([]string{x, large, "bad"}, []string{x})
	if err == nil || !strings.Contains(err.Error(), "recipient 2: an RSA key of 4104 bits") || !strings.Contains(err.Error(), "recipient 3: not a recipient") {
		t.Errorf("%v", err)
	}
	if err := seal.CheckNew([]string{large + " now with a comment"}, []string{x, large}); err != nil {
		t.Errorf("one that the client has: %v", err)
	}
	if bits := seal.RSABits(large + " c"); bits != 4104 {
		t.Errorf("%d bits", bits)
	}
	if seal.RSABits(x) != 0 || seal.RSABits("ssh-rsa") != 0 || seal.RSABits(sshEd25519(t).public) != 0 {
		t.Error("other kinds have no RSA bits")
	}
	if err := seal.CheckNew(make([]string, seal.MaxRecipients+1), nil); err == nil || !strings.Contains(err.Error(), "limit is 64") {
		t.Errorf("65 recipients: %v", err)
	}
	// Stored ones of any size are sealed to.
	recipients, err := seal.ParseRecipients([]string{large, sshtest.RSALine(t, 16384)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.Seal(secret, recipients...); err != nil {
		t.Error(err)
	}
}
