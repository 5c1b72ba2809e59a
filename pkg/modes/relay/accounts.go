package relay

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// actionAccount is the action of the audit trail's entries about new accounts.
const actionAccount = "acme account"

// RequiresBinding implements acmeserver.Accounts. The common directory is for external
// account bindings. All other entrances are instead of them.
func (r *Relay) RequiresBinding(ctx context.Context, entrance string) (bool, error) {
	switch entrance {
	case "":
		return true, nil
	case auth.KeyEntrance:
		return false, nil
	}
	verifier, err := auth.EntranceVerifier(entrance)
	if err != nil {
		return false, acmeserver.ErrNotFound
	}
	_, _, err = r.lookUp(ctx, clients.ACMEDirectory, verifier)
	return false, notFound(err)
}

// BindingKey implements acmeserver.Accounts.
func (r *Relay) BindingKey(ctx context.Context, kid string) ([]byte, error) {
	verifier, err := auth.BindingVerifier(kid)
	if err != nil {
		return nil, acmeserver.ErrNotFound
	}
	if _, _, err := r.lookUp(ctx, clients.ACMEBinding, verifier); err != nil {
		return nil, notFound(err)
	}
	return auth.BindingKey(r.cfg.BindingSecret, kid)
}

func notFound(err error) error {
	if errors.Is(err, managed.ErrNotFound) {
		return acmeserver.ErrNotFound
	}
	return err
}

// lookUp returns the client of an unexpired credential, or managed.ErrNotFound. The index
// finds the row. Only the comparison, in constant time, admits the caller.
func (r *Relay) lookUp(ctx context.Context, kind clients.CredentialKind, verifier []byte) (clients.Client, clients.Credential, error) {
	client, credential, err := r.cfg.Store.ClientByCredential(ctx, kind, verifier)
	if err == nil && (credential.Kind != kind || subtle.ConstantTimeCompare(credential.Verifier, verifier) != 1) {
		err = managed.ErrNotFound
	}
	if err != nil {
		return clients.Client{}, clients.Credential{}, fmt.Errorf("look up the client's %s: %w", kind, err)
	}
	return client, credential, nil
}

// Admit implements acmeserver.Accounts. The owner names the client and its credential.
func (r *Relay) Admit(ctx context.Context, a acmeserver.NewAccount) (owner string, err error) {
	kind, verifier, err := presented(a)
	if err != nil {
		return "", r.unknownAccount(ctx, a)
	}
	client, credential, err := r.lookUp(ctx, kind, verifier)
	if errors.Is(err, managed.ErrNotFound) {
		return "", r.unknownAccount(ctx, a)
	}
	if err != nil {
		return "", err
	}
	if err := r.check(ctx, client, credential, &a.Addr); err != nil {
		return "", err
	}
	if former, _, _ := strings.Cut(a.Former, "."); former != "" && former != client.ID {
		return "", &acme.Problem{Type: acme.Unauthorized, Status: http.StatusForbidden, Detail: "the account of this key belongs to another client; register with a new account key"}
	}
	id := identity(client, credential, a.Addr)
	if err := r.cfg.Audit.Authorize(ctx, audit.Ask{By: id, Action: actionAccount, Costs: true}); err != nil {
		return "", r.refusal(err, nil)
	}
	r.cfg.Known(ctx, client.ID)
	r.used(ctx, credential, a.Kid, a.Addr)
	return client.ID + "." + credential.ID, nil
}

// presented returns the credential with which a client registers.
func presented(a acmeserver.NewAccount) (kind clients.CredentialKind, verifier []byte, err error) {
	switch {
	case a.Kid != "":
		verifier, err = auth.BindingVerifier(a.Kid)
		return clients.ACMEBinding, verifier, err
	case a.Entrance == auth.KeyEntrance:
		verifier, err = auth.ThumbprintVerifier(a.Thumbprint)
		return clients.ACMEKey, verifier, err
	case a.Entrance != "":
		verifier, err = auth.EntranceVerifier(a.Entrance)
		return clients.ACMEDirectory, verifier, err
	}
	return "", nil, errors.New("no credential") // the Server demands a binding
}

func (r *Relay) unknownAccount(ctx context.Context, a acmeserver.NewAccount) error {
	p := &acme.Problem{Type: acme.Unauthorized, Status: http.StatusForbidden, Detail: "the credential is unknown or expired; ask the proxy's administrator for a new one"}
	reason := string(auth.ReasonUnknown)
	if a.Kid == "" && a.Entrance == auth.KeyEntrance {
		p.Detail = "this account key is not registered; ask the proxy's administrator to register its thumbprint " + a.Thumbprint
		reason = "account key not registered: thumbprint " + a.Thumbprint
	}
	r.cfg.Audit.Refuse(ctx, a.Addr, actionAccount, reason)
	return p
}

// Unbound implements acmeserver.Unbound. The administrator finds the refusals of a client
// in its audit trail. Those of unknown kids are in the log only.
func (r *Relay) Unbound(ctx context.Context, a acmeserver.NewAccount, p *acme.Problem) {
	verifier, err := auth.BindingVerifier(a.Kid)
	if err != nil {
		return
	}
	client, _, err := r.lookUp(ctx, clients.ACMEBinding, verifier)
	if err != nil {
		return
	}
	r.cfg.Audit.Record(ctx, trail.Entry{
		ClientID: client.ID, ClientName: client.Name, Addr: trail.Address(a.Addr),
		Action: actionAccount, Outcome: trail.Refused, Detail: p.Detail,
	})
}

// Allow implements acmeserver.Accounts.
func (r *Relay) Allow(ctx context.Context, a acmeserver.Account, addr netip.Addr) error {
	id, err := r.caller(ctx, a, &addr)
	switch {
	case err == nil:
		r.cfg.Known(ctx, id.Client.ID)
	case errors.As(err, new(*acme.Problem)): // not a fault of the store
		r.cfg.Unknown(ctx)
	}
	return err
}

// caller returns the client of an account. It checks the networks of the credential if
// addr is not nil. The error is an *acme.Problem or a fault of the store.
func (r *Relay) caller(ctx context.Context, a acmeserver.Account, addr *netip.Addr) (clients.Identity, error) {
	clientID, credentialID, _ := strings.Cut(a.Owner, ".")
	client, credential, err := r.cfg.Store.ClientByCredentialID(ctx, credentialID)
	if errors.Is(err, managed.ErrNotFound) {
		client, credential, err = r.registeredKey(ctx, a.Thumbprint)
	}
	if err == nil && client.ID != clientID {
		err = managed.ErrNotFound
	}
	if errors.Is(err, managed.ErrNotFound) {
		return clients.Identity{}, r.refuseCaller(ctx, &auth.Error{Reason: auth.ReasonUnknown, ClientID: clientID}, addr,
			"the credential with which this account was registered was revoked; "+registerAgain)
	}
	if err != nil {
		return clients.Identity{}, fmt.Errorf("look up the account's credential: %w", err)
	}
	if err := r.check(ctx, client, credential, addr); err != nil {
		return clients.Identity{}, err
	}
	from := netip.Addr{}
	if addr != nil {
		from = *addr
		r.used(ctx, credential, a.Kid, from)
	}
	return identity(client, credential, from), nil
}

// used stores the use of a credential for the administrator. A failure refuses no client.
func (r *Relay) used(ctx context.Context, c clients.Credential, kid string, addr netip.Addr) {
	if c.Kind != clients.ACMEBinding {
		kid = "" // an account with a binding can have a registered key instead
	}
	if err := r.cfg.Store.CredentialUsed(ctx, c, kid, trail.Address(addr)); err != nil {
		r.cfg.Logger.Warn("the use of a credential is not recorded", "credential", c.ID, "error", err)
	}
}

// registeredKey returns the client that has registered an account key. It is asked for an
// account whose own credential is gone: the administrator may have registered the key
// again.
func (r *Relay) registeredKey(ctx context.Context, thumbprint string) (clients.Client, clients.Credential, error) {
	verifier, err := auth.ThumbprintVerifier(thumbprint)
	if err != nil {
		return clients.Client{}, clients.Credential{}, managed.ErrNotFound
	}
	return r.lookUp(ctx, clients.ACMEKey, verifier)
}

// check refuses a client that is disabled, and a credential that has expired or is used
// from elsewhere.
func (r *Relay) check(ctx context.Context, c clients.Client, credential clients.Credential, addr *netip.Addr) error {
	refused := &auth.Error{ClientID: c.ID, ClientName: c.Name}
	switch {
	case c.Disabled:
		refused.Reason = auth.ReasonDisabled
		return r.refuseCaller(ctx, refused, addr, fmt.Sprintf("client %q is disabled; ask the proxy's administrator to enable it", c.Name))
	case !credential.ExpiresAt.IsZero() && !r.cfg.Now().Before(credential.ExpiresAt):
		refused.Reason = auth.ReasonExpired
		return r.refuseCaller(ctx, refused, addr, "the credential with which this account was registered is expired; "+registerAgain)
	case addr != nil && len(credential.Networks) > 0 && !policy.Within(credential.Networks, *addr):
		refused.Reason = auth.ReasonNetwork
		return r.refuseCaller(ctx, refused, addr, fmt.Sprintf("the credential of client %q may not be used from %s; ask the proxy's administrator to allow that network", c.Name, addr))
	}
	return nil
}

// refuseCaller records a refusal and returns it for the client.
func (r *Relay) refuseCaller(ctx context.Context, e *auth.Error, addr *netip.Addr, detail string) error {
	if addr != nil {
		e.Addr = *addr
	}
	r.cfg.Audit.RefuseCaller(ctx, e)
	if e.Reason == auth.ReasonUnknown || e.Reason == auth.ReasonExpired {
		return &acme.Problem{Type: acme.AccountDoesNotExist, Status: http.StatusBadRequest, Detail: detail}
	}
	return &acme.Problem{Type: acme.Unauthorized, Status: http.StatusForbidden, Detail: detail}
}

// registerAgain is for accounts whose credential is gone. Their problem has the type
// accountDoesNotExist, after which Caddy and others register again without a person, if
// they have a new credential.
const registerAgain = "register again with a new credential from the proxy's administrator; if your program does not, delete its account there first"

func identity(c clients.Client, credential clients.Credential, addr netip.Addr) clients.Identity {
	return clients.Identity{Client: c, Via: credential.Kind, CredentialID: credential.ID, Since: credential.CreatedAt, Addr: addr}
}
