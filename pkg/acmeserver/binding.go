package acmeserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/jws"
)

// maxBinding is the size of an external account binding. The largest RSA key takes 3 KiB.
const maxBinding = 8 << 10

// checkBinding verifies the external account binding of a newAccount request (RFC 8555,
// section 7.3.4) and returns its key identifier, or nothing if the request has none
// and needs none.
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
		return "", problem(acme.Malformed, 0,
			"externalAccountBinding: its url is not that of newAccount, which is "+printableURL(r.message.Header.URL))
	}
	key, err := s.cfg.Accounts.BindingKey(ctx, b.Kid)
	switch {
	case errors.Is(err, ErrNotFound):
		return "", problem(acme.Unauthorized, http.StatusForbidden,
			"externalAccountBinding: the key identifier is unknown; check it, and that you use the right server")
	case err != nil:
		return "", fmt.Errorf("read the key of an external account binding: %w", err)
	}
	return b.Kid, b.Verify(key, r.key)
}
