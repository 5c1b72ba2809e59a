package acmeserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/jws"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// maxBinding is the size of an external account binding. The largest RSA key takes 3 KiB.
const maxBinding = 8 << 10

// checkBinding verifies the external account binding of a newAccount request (RFC 8555,
// section 7.3.4) and returns its key identifier, or nothing if the request has none
// and needs none. It also returns the key identifier of a refused one, if it has any.
func (s *Server) checkBinding(
	ctx context.Context, r *request, raw json.RawMessage, required bool,
) (kid string, err error) {
	switch {
	case len(raw) > maxBinding:
		return "", problem(acme.Malformed, 0, "externalAccountBinding: it is too large")
	case len(raw) > 0 && string(raw) != "null":
	case required:
		return "", problem(acme.ExternalAccountNeeded, 0,
			"externalAccountBinding: this server requires it; register with a key identifier and an HMAC key")
	default:
		return "", nil
	}
	b, err := jws.ParseBinding(raw)
	if err != nil {
		return "", err
	}
	if b.URL != r.message.Header.URL {
		return b.Kid, problem(acme.Malformed, 0,
			"externalAccountBinding: its url is not that of newAccount, which is "+printableURL(r.message.Header.URL))
	}
	key, err := s.cfg.Accounts.BindingKey(ctx, b.Kid)
	switch {
	case errors.Is(err, ErrNotFound):
		return b.Kid, problem(acme.Unauthorized, http.StatusForbidden,
			"externalAccountBinding: the key identifier is unknown; check it, and that you use the right server")
	case err != nil:
		return b.Kid, fmt.Errorf("read the key of an external account binding: %w", err)
	}
	return b.Kid, b.Verify(key, r.key)
}

// unbound tells an Unbound of a refused binding. It returns the error for the client.
func (s *Server) unbound(ctx context.Context, r *request, kid string, err error) error {
	var p *acme.Problem
	if observer, ok := s.cfg.Accounts.(Unbound); ok && errors.As(err, &p) {
		observer.Unbound(ctx, NewAccount{
			Thumbprint: r.key.Thumbprint(), Kid: kid, Entrance: r.PathValue("entrance"), Addr: r.addr,
		}, p)
	}
	return noteRegistration(err, r, kid)
}

// noteRegistration adds to the log who was refused an account, and why. Other refusals are
// in the log without details.
func noteRegistration(err error, r *request, kid string) error {
	refusal := &Refusal{}
	if known := (*Refusal)(nil); errors.As(err, &known) {
		*refusal = *known
	} else if !errors.As(err, &refusal.Problem) {
		return err // the log has it as a failure
	}
	refusal.note = append(slices.Clip(refusal.note), "from", r.addr)
	if kid != "" {
		// A person may have confused the two values, so no complete HMAC key may be logged.
		refusal.note = append(refusal.note, "kid", printable.Line(cut(kid, 30)))
	}
	if p := refusal.Problem; p != nil {
		refusal.note = append(refusal.note, "reason", printable.Line(cut(p.Detail, 300)))
	}
	return refusal
}
