package audit

import (
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// Superseded returns the entry about a certificate that lost a name to another
// client. The entry belongs to the client that lost it, and only the administrator
// reads it.
func Superseded(s managed.Superseded) trail.Entry {
	to := "the proxy itself"
	if s.To.ID != "" {
		to = fmt.Sprintf("client %q", s.To.Name)
	}
	return Trim(trail.Entry{
		ClientID: s.Owner.ID, ClientName: s.Owner.Name, Addr: trail.Admin, Action: "certificate superseded",
		Mode: s.Mode, Names: s.Names, Outcome: trail.Done,
		Detail: fmt.Sprintf("certificate %s is no longer renewed: %s passed to %s, since its owner may not have it any more", s.ID, s.Name, to),
	})
}
