package policy

import (
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// AllowUnattended is Allow for a renewal: nobody calls, so the network from
// which the client may ask does not count.
func AllowUnattended(id clients.Identity, r Request) error {
	grants := slices.Clone(id.Client.Grants)
	for i := range grants {
		grants[i].Networks = nil
	}
	id.Client.Grants = grants
	return Allow(id, r)
}
