package relay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// actionKeyChange is the action of the audit trail's entries about new keys of accounts.
const actionKeyChange = "acme key change"

// ChangeKey implements acmeserver.KeyChanger. A credential for the old key becomes one for
// the new key. If it stayed, the thief of a key could register again after the owner
// changed it. If it were removed, the account could not be used any more.
func (r *Relay) ChangeKey(ctx context.Context, a acmeserver.Account, thumbprint string, addr netip.Addr) error {
	id, err := r.caller(ctx, a, &addr)
	if err != nil {
		return err
	}
	if err := r.cfg.Audit.Pace(id); err != nil {
		return r.refusal(err, nil)
	}
	from, err1 := auth.ThumbprintVerifier(a.Thumbprint)
	to, err2 := auth.ThumbprintVerifier(thumbprint)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("change an account key: %w", err)
	}
	entry := trail.By(id, actionKeyChange)
	entry.Outcome, entry.Detail = trail.Allowed, "thumbprint "+thumbprint
	err = r.cfg.Store.MoveACMEKey(ctx, id.Client.ID, from, to)
	if errors.Is(err, managed.ErrConflict) {
		entry.Outcome, entry.Detail = trail.Refused, entry.Detail+" is registered for another client"
		err = &acme.Problem{
			Type: acme.Unauthorized, Status: http.StatusForbidden,
			Detail: "the new key is registered for another client of this proxy; generate another one",
		}
	} else if err != nil {
		return fmt.Errorf("move the %s credential: %w", clients.ACMEKey, err)
	}
	r.cfg.Audit.Record(ctx, entry)
	return err
}
