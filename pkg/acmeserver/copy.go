package acmeserver

import (
	"bytes"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// The copies below share nothing with the originals.

func copyAccount(a Account) Account {
	a.Key, a.Contacts, a.Binding = bytes.Clone(a.Key), slices.Clone(a.Contacts), bytes.Clone(a.Binding)
	return a
}

func copyOrder(o Order) Order {
	o.Identifiers, o.Error = slices.Clone(o.Identifiers), copyProblem(o.Error)
	o.CSR, o.State = bytes.Clone(o.CSR), bytes.Clone(o.State)
	o.Authorizations = slices.Clone(o.Authorizations)
	for i := range o.Authorizations {
		challenges := slices.Clone(o.Authorizations[i].Challenges)
		for j := range challenges {
			challenges[j].Error = copyProblem(challenges[j].Error)
		}
		o.Authorizations[i].Challenges = challenges
	}
	return o
}

func copyProblem(p *acme.Problem) *acme.Problem {
	if p == nil {
		return nil
	}
	c := *p
	if p.Identifier != nil {
		c.Identifier = new(*p.Identifier)
	}
	c.Subproblems, c.Algorithms = slices.Clone(p.Subproblems), slices.Clone(p.Algorithms)
	return &c
}

func copyCertificate(c Certificate) Certificate {
	c.Chains = slices.Clone(c.Chains)
	for i := range c.Chains {
		c.Chains[i] = bytes.Clone(c.Chains[i])
	}
	c.Identifiers, c.State = slices.Clone(c.Identifiers), bytes.Clone(c.State)
	return c
}
