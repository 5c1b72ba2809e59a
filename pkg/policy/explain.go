package policy

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// Explanation is a decision with what each grant says about the request.
type Explanation struct {
	Decision
	// Denied is the reason of a denial. It is nil if the request is allowed.
	Denied *Denied
	// Verdicts has one entry for each grant of the client, in their order. It is empty
	// if the decision needs no grant.
	Verdicts []Verdict
}

// Verdict is one grant's decision about a request.
type Verdict struct {
	Grant clients.Grant
	// Faults are the parts of the request that the grant does not cover, as in "is not
	// for mode acme". Without a fault, the grant covers the request.
	Faults []string
}

// Explain decides like Decide, and explains the decision to the administrator.
func Explain(id clients.Identity, r Request) Explanation {
	d, err := Decide(id, r)
	e := Explanation{Decision: d}
	if errors.As(err, &e.Denied) && (e.Denied.Field == "client" || len(id.Client.Grants) == 0) {
		return e
	}
	names, err := cert.ParseNames(r.Names...)
	if err != nil {
		return e
	}
	for _, g := range id.Client.Grants {
		e.Verdicts = append(e.Verdicts, Verdict{Grant: g, Faults: check(g, id, r, names).texts(g, id, r, names)})
	}
	return e
}

// texts describes the parts that the grant does not cover.
func (m miss) texts(g clients.Grant, id clients.Identity, r Request, names cert.Names) (faults []string) {
	fault := func(missed bool, format string, args ...any) {
		if missed {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	fault(len(m.names) > 0, "does not cover %s", few(m.names))
	fault(m.mode, "is not for mode %s, but for %s", r.Mode, clients.JoinModes(g.Modes, ", "))
	fault(m.keyType, "is for keys of type %s, not %s", strings.Join(g.KeyTypes, ", "), cmp.Or(string(r.KeyType), "any other"))
	fault(m.profile, "is for profile %s, not %s", strings.Join(g.Profiles, ", "), acme.Shorten(cmp.Or(r.Profile, clients.ProfileDefault)))
	fault(m.most > 0, "is for at most %d in one certificate, not %d", m.most, len(names))
	fault(m.source, "is for %s, not %s", strings.Join(g.Networks, ", "), from(id))
	return faults
}
