package policy

import (
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// ForRevocation is the client with its grants as they count for revoking a
// certificate of which it has proven to hold the key: each in all modes and for
// all types of keys. The names and the network count as ever.
func ForRevocation(id clients.Identity) clients.Identity {
	grants := slices.Clone(id.Client.Grants)
	for i := range grants {
		grants[i].Modes, grants[i].KeyTypes = clients.GrantableModes(), nil
	}
	id.Client.Grants = grants
	return id
}
