package acmeserver

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/jws"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// mustBeProblem ends the test if an error would be serverInternal.
func mustBeProblem(t *testing.T, err error) {
	t.Helper()
	var p *acme.Problem
	if err != nil && !errors.As(err, &p) {
		t.Fatalf("%v is no problem", err)
	}
}

// Accepted identifiers are canonical, and what comes back is the client's list.
func FuzzIdentifiers(f *testing.F) {
	for _, seed := range []string{
		`[{"type":"dns","value":"A.example.com"},{"type":"dns","value":"a.example.com"}]`, `[{"type":"ip","value":"2001:DB8::1"}]`,
		`[{"type":"dns","value":"*.example.com"}]`, `[{"type":"ip","value":"::ffff:192.0.2.1"}]`, `[{"type":"dns","value":"` + "\u212a" + `.example"}]`,
		`[{"type":"dns","value":"192.0.2.1"},{"type":"x","value":""}]`, `[]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var in []acme.Identifier
		if json.Unmarshal(raw, &in) != nil {
			return
		}
		all, distinct, err := parseIdentifiers(in, 10)
		if mustBeProblem(t, err); err != nil {
			return
		}
		if len(all) != len(in) || len(distinct) == 0 || len(distinct) > len(all) {
			t.Fatalf("%d of %d identifiers, %d distinct", len(all), len(in), len(distinct))
		}
		for i, id := range all {
			canonical, err := cert.ParseName(in[i].Value)
			if err != nil || canonical != id.Value || cert.IsIP(canonical) != (id.Type == acme.TypeIP) || !strings.EqualFold(id.Value, in[i].Value) {
				t.Fatalf("%+v became %+v", in[i], id)
			}
		}
	})
}

func FuzzARIID(f *testing.F) {
	for _, seed := range []string{"aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE", "AAAA.", ".", "AA==.AA", "A\n.AA"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if isARIID(id) && (len(id) > 200 || strings.Count(id, ".") != 1 || strings.ContainsAny(id, "\x00\r\n =+/")) {
			t.Fatalf("%q is accepted", id)
		}
	})
}

// An accepted CSR has exactly the identifiers of the order.
func FuzzCSR(f *testing.F) {
	account, err := jws.ParseKey(rawacme.JSON(rawacme.JWK(rawacme.NewKey().Public())))
	if err != nil {
		f.Fatal(err)
	}
	ids := []acme.Identifier{{Type: acme.TypeDNS, Value: "a.example.com"}, {Type: acme.TypeIP, Value: "192.0.2.1"}}
	der, err := cert.NewCSR(rawacme.NewKey(), cert.Names{"192.0.2.1", "a.example.com"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rawacme.B64(der))
	f.Add(rawacme.B64(der) + "==")
	f.Add("MII")
	f.Fuzz(func(t *testing.T, text string) {
		der, err := decodeDER("csr", text, cert.MaxCSR)
		if mustBeProblem(t, err); err != nil {
			return
		}
		csr, err := checkCSR(der, ids, account)
		if mustBeProblem(t, err); err == nil && csr.Names.Key() != "192.0.2.1,a.example.com" {
			t.Fatalf("accepted for %v", csr.Names)
		}
	})
}

func FuzzRevocation(f *testing.F) {
	f.Add([]byte(`{"certificate":"MIIB","reason":1}`))
	f.Add([]byte(`{"certificate":1}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, payload []byte) {
		_, _, err := parseRevocation(payload)
		mustBeProblem(t, err)
	})
}
