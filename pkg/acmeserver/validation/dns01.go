package validation

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// DNS01 validates dns-01 (RFC 8555, section 8.4). It follows CNAME records. Resolvers that
// cache answers make a client wait after a change; a resolver without a long cache of
// its own suits this best.
type DNS01 struct{ Network }

// Validate implements acmeserver.Validator.
func (d DNS01) Validate(ctx context.Context, v acmeserver.Validation) error {
	return d.attempt(ctx, v, func(ctx context.Context) *fault {
		if v.Identifier.Type != acme.TypeDNS {
			return &fault{kind: acme.Malformed, detail: "dns-01 is for names only", final: true}
		}
		digest := sha256.Sum256([]byte(v.KeyAuthorization))
		return d.find(ctx, "_acme-challenge."+v.Identifier.Value, base64.RawURLEncoding.EncodeToString(digest[:]))
	})
}

// find looks for a TXT record with the value. Others may have the same name.
func (d DNS01) find(ctx context.Context, name, want string) *fault {
	records, f := d.ask(ctx, name, dns.TypeTXT)
	if f != nil {
		return f
	}
	seen := 0
	for _, rr := range records {
		txt, ok := rr.(*dns.TXT)
		if !ok {
			continue
		}
		if strings.Join(txt.Txt, "") == want {
			return nil
		}
		seen++
	}
	if seen == 0 {
		return &fault{kind: acme.Unauthorized, detail: "there is no TXT record at " + name}
	}
	return &fault{kind: acme.IncorrectResponse, detail: "no TXT record at " + name + " has the value for this challenge and account"}
}
