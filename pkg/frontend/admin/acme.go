package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/enroll"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
)

// NewACME is a request for a credential of the ACME door.
type NewACME struct {
	Kind       clients.CredentialKind `json:"kind"`                 // acme-eab, acme-directory or acme-key
	Thumbprint string                 `json:"thumbprint,omitempty"` // of acme-key: RFC 7638, in base64url
	Networks   []string               `json:"networks,omitempty"`   // from which it may be used; none: any
	ExpiresIn  JSONDuration           `json:"expires_in,omitempty"` // 0s: it does not expire
	Replace    bool                   `json:"replace,omitempty"`    // remove the client's others of this door
}

// ACMEAnswer holds the only copy of a credential of the ACME door.
type ACMEAnswer struct {
	Client     Client     `json:"client"`
	Credential Credential `json:"credential"`
	Directory  string     `json:"directory"` // URL; secret with the kind acme-directory
	Kid        string     `json:"kid,omitempty"`
	HMACKey    string     `json:"hmac_key,omitempty"` // base64url
	// Certificate is the proxy's own certificate in PEM while it is self-signed. Clients
	// trust the directory only by this file then.
	Certificate string   `json:"certificate,omitempty"`
	Warnings    []string `json:"warnings,omitempty"`
	// Removed lists the credentials that were replaced.
	Removed []Credential `json:"removed,omitempty"`
}

// RevokedACME lists the credentials that were removed.
type RevokedACME struct {
	Removed []Credential `json:"removed"`
}

// Explain asks what the grants of a client say about a request.
type Explain struct {
	Names   []string     `json:"names"`
	Mode    clients.Mode `json:"mode"`
	KeyType string       `json:"key_type,omitempty"` // if empty, ec256
	Profile string       `json:"profile,omitempty"`  // if empty, the CA's default
	From    string       `json:"from,omitempty"`     // address of the client; if empty, networks do not count
}

// Explanation is a decision with its reasons.
type Explanation struct {
	Mode       clients.Mode `json:"mode"`
	Names      []string     `json:"names"` // canonical
	Allowed    bool         `json:"allowed"`
	Reason     string       `json:"reason,omitempty"` // of a denial, as the client reads it
	DailyQuota int          `json:"daily_quota,omitempty"`
	Grants     []Verdict    `json:"grants"` // in the order of the client's
	// Proxy has the reasons of the proxy itself, whatever the grants say. They are known for
	// the mode acme.
	Proxy []string `json:"proxy,omitempty"`
}

// Verdict is one grant's decision about a request.
type Verdict struct {
	Grant  clients.Grant `json:"grant"`
	Covers bool          `json:"covers"`
	Faults []string      `json:"faults,omitempty"` // such as "is not for mode acme"
}

// NewACME issues a credential of the ACME door, and returns its only copy.
func (a *Admin) NewACME(ctx context.Context, name string, req NewACME) (answer ACMEAnswer, err error) {
	return answer, a.call(ctx, http.MethodPost, clientPath(name)+"/acme", req, &answer)
}

// RevokeACME removes one credential of the ACME door, or all if id is empty.
func (a *Admin) RevokeACME(ctx context.Context, name, id string) (answer RevokedACME, err error) {
	path := clientPath(name) + "/acme"
	if id != "" {
		path += "/" + url.PathEscape(id)
	}
	return answer, a.call(ctx, http.MethodDelete, path, nil, &answer)
}

// Explain explains the decision about a request of a client.
func (a *Admin) Explain(ctx context.Context, name string, req Explain) (answer Explanation, err error) {
	return answer, a.call(ctx, http.MethodPost, clientPath(name)+"/explain", req, &answer)
}

func (f *frontend) newACME(r *http.Request, req NewACME) (ACMEAnswer, error) {
	issued, err := f.Registrar.ACME(r.Context(), r.PathValue("name"), enroll.ACMESpec{
		Kind: req.Kind, Thumbprint: req.Thumbprint, Networks: req.Networks, Life: time.Duration(req.ExpiresIn), Replace: req.Replace,
	})
	var taken *enroll.AccountKeyTakenError
	if errors.As(err, &taken) {
		remedy := "remove that credential first, see acmeproxy help clients acme"
		if taken.Client != "" {
			remedy = fmt.Sprintf("remove it first: acmeproxy clients acme %s --revoke %s", taken.Client, taken.CredentialID)
		}
		err = refuse(http.StatusConflict, "%w; %s", err, remedy)
	}
	if err != nil {
		return ACMEAnswer{}, err
	}
	answer := ACMEAnswer{
		Client: wireClient(issued.Client), Credential: wireCredential(issued.Credential),
		Directory: issued.Directory, Kid: issued.Kid, HMACKey: issued.HMACKey,
	}
	for _, c := range issued.Removed {
		answer.Removed = append(answer.Removed, wireCredential(c))
	}
	if f.SelfSigned != nil {
		answer.Certificate = f.SelfSigned()
	}
	if !allowsACME(issued.Client) {
		answer.Warnings = append(answer.Warnings, "no grant of the client allows the mode acme yet; add it with acmeproxy clients apply")
	}
	return answer, nil
}

func allowsACME(c clients.Client) bool {
	for _, g := range c.Grants {
		for _, m := range g.Modes {
			if m == clients.ModeACME {
				return true
			}
		}
	}
	return false
}

func wireCredential(c clients.Credential) Credential {
	out := Credential{
		ID: c.ID, Kind: string(c.Kind), CreatedAt: c.CreatedAt, ExpiresAt: c.ExpiresAt, Networks: c.Networks,
		Kid: c.Kid, LastUsed: c.LastUsed, LastFrom: c.LastFrom,
	}
	if c.Kind == clients.ACMEKey {
		out.Thumbprint = auth.Thumbprint(c.Verifier)
	}
	return out
}

func (f *frontend) revokeACME(r *http.Request, _ struct{}) (RevokedACME, error) {
	removed, err := f.Registrar.RevokeACME(r.Context(), r.PathValue("name"), r.PathValue("id"))
	if errors.Is(err, enroll.ErrNoCredential) {
		err = refuse(http.StatusNotFound, "client %q has no credential %q of the ACME door; run acmeproxy clients show to see all", r.PathValue("name"), r.PathValue("id"))
	}
	out := RevokedACME{Removed: []Credential{}}
	for _, c := range removed {
		out.Removed = append(out.Removed, wireCredential(c))
	}
	return out, err
}

func (f *frontend) explain(r *http.Request, req Explain) (Explanation, error) {
	c, err := f.Store.ClientByName(r.Context(), r.PathValue("name"))
	if err != nil {
		return Explanation{}, err
	}
	names, err := cert.ParseNames(req.Names...)
	if err != nil {
		return Explanation{}, refuse(http.StatusUnprocessableEntity, "names: %w", err)
	}
	ask := policy.Request{Mode: req.Mode.Canonical(), Names: names, Profile: req.Profile}
	if ask.Profile == clients.ProfileDefault {
		ask.Profile = ""
	}
	if !ask.Mode.IsGrantable() {
		return Explanation{}, refuse(http.StatusUnprocessableEntity, "mode: %q is unknown; use %s", req.Mode, clients.JoinModes(clients.GrantableModes(), ", "))
	}
	if ask.KeyType, err = cert.ParseKeyType(req.KeyType); err != nil {
		return Explanation{}, refuse(http.StatusUnprocessableEntity, "key_type: %w", err)
	}
	id := clients.Identity{Client: c}
	if ask.AnySource = req.From == ""; !ask.AnySource {
		if id.Addr, err = netip.ParseAddr(req.From); err != nil {
			return Explanation{}, refuse(http.StatusUnprocessableEntity, "from: %q is not an IP address", req.From)
		}
	}
	if ask.Mode == clients.ModeChallenge {
		ask.Purpose = policy.Proof
	}
	e := policy.Explain(id, ask)
	out := Explanation{Mode: ask.Mode, Names: names, Allowed: e.Denied == nil, DailyQuota: e.Quota, Grants: []Verdict{}}
	if ask.Purpose == policy.Proof {
		out.DailyQuota = 0 // it counts requests that may cost an order of the proxy's account
	}
	if e.Denied != nil {
		out.Reason = e.Denied.ForClient()
	}
	if ask.Mode == clients.ModeACME && f.RefusesACME != nil {
		out.Proxy = f.RefusesACME(names)
	}
	if out.Allowed && len(out.Proxy) > 0 {
		out.Allowed, out.Reason = false, strings.Join(out.Proxy, "; ")
	}
	for _, v := range e.Verdicts {
		out.Grants = append(out.Grants, Verdict{Grant: v.Grant, Covers: len(v.Faults) == 0, Faults: v.Faults})
	}
	return out, nil
}
