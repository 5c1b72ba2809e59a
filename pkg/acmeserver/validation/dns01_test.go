package validation_test

import (
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/validation"
)

// digest is the value of the TXT record: the SHA-256 of keyAuthorization, in base64url.
const digest = "lCM7cZyQXcVHK2nnW3jjAhNT3Fvm18UN-kWZZknKoYM"

// One TXT record with the value is enough, among others, in parts, or at the end of an
// alias (RFC 8555, section 8.4; C23).
func TestDNS01(t *testing.T) {
	t.Parallel()
	w := newWorld(t,
		"_acme-challenge.a.example.com. TXT "+digest,
		"_acme-challenge.many.example.com. TXT other", "_acme-challenge.many.example.com. TXT "+digest,
		`_acme-challenge.parts.example.com. TXT "`+digest[:20]+`" "`+digest[20:]+`"`,
		"_acme-challenge.alias.example.com. CNAME x.acme.example.net.", "x.acme.example.net. TXT "+digest,
		"_acme-challenge.wrong.example.com. TXT "+secret, "_acme-challenge.wrong.example.com. TXT "+strings.ToLower(digest),
		"_acme-challenge.empty.example.com. A 127.0.0.1", "_acme-challenge.none.example.com. CNAME y.acme.example.net.",
		"below.example.com. TXT "+digest)
	w.fail("_acme-challenge.broken.example.com.")
	d := validation.DNS01{Network: w.Network}
	for _, name := range []string{"a.example.com", "many.example.com", "parts.example.com", "alias.example.com"} {
		v := validationOf(acme.DNS01, name)
		v.Wildcard = name == "many.example.com" // its record is at the same name
		if err := d.Validate(t.Context(), v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, want := range map[string][2]string{
		"wrong.example.com":   {acme.IncorrectResponse, "no TXT record at _acme-challenge.wrong.example.com has the value"},
		"empty.example.com":   {acme.Unauthorized, "no TXT record at _acme-challenge.empty.example.com"},
		"none.example.com":    {acme.Unauthorized, "no TXT record"},
		"missing.example.com": {acme.DNS, "no such name"},
		"below.example.com":   {acme.DNS, "no such name"},
		"broken.example.com":  {acme.DNS, "SERVFAIL"},
		"127.0.0.1":           {acme.Malformed, "names only"},
	} {
		wantProblem(t, d.Validate(t.Context(), validationOf(acme.DNS01, name)), want[0], want[1])
	}
}
