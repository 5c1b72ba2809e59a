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

// keyChange gives an account another key (RFC 8555, section 7.3.5). The old key signs
// the request, the new one its payload.
func (s *Server) keyChange(ctx context.Context, r *request) (*answer, error) {
	key, err := newKey(r)
	if err != nil {
		return nil, err
	}
	switch _, err := s.cfg.Storage.AccountByKey(ctx, key.Thumbprint()); {
	case err == nil: // perhaps the same account
		return nil, s.keyTaken(ctx, key)
	case !errors.Is(err, ErrNotFound):
		return nil, fmt.Errorf("read the account of a new key: %w", err)
	}
	if host, ok := s.cfg.Accounts.(KeyChanger); ok {
		if err := host.ChangeKey(ctx, r.account, key.Thumbprint(), r.addr); err != nil {
			return nil, err
		}
	}
	a, err := s.updateAccount(ctx, r, func(a *Account) {
		a.Key, a.Thumbprint = key.JSON(), key.Thumbprint()
	})
	if errors.Is(err, ErrExists) {
		return nil, s.keyTaken(ctx, key)
	}
	if err != nil {
		return nil, err
	}
	return s.accountAnswer(http.StatusOK, a), nil
}

// newKey returns the new key of a keyChange request after all checks of the RFC, apart
// from that for an account which has it.
func newKey(r *request) (*jws.Key, error) {
	inner, err := jws.ParseInner(r.payload)
	if err != nil {
		return nil, err
	}
	payload, err := inner.Verify(inner.Header.Key)
	if err != nil {
		return nil, err
	}
	var in struct {
		Account string          `json:"account"`
		OldKey  json.RawMessage `json:"oldKey"`
	}
	if err := decode(payload, &in); err != nil {
		return nil, err
	}
	old, err := jws.ParseKey(in.OldKey)
	switch {
	case err != nil:
		return nil, problem(acme.Malformed, 0, "oldKey: it is no usable key; send the account's current one")
	case inner.Header.URL != r.message.Header.URL:
		return nil, problem(acme.Malformed, 0, "url: it differs between the inner and the outer JWS; use the same")
	case in.Account != r.message.Header.Kid:
		return nil, problem(acme.Malformed, 0, "account: it is not the kid of the outer JWS; send the account's URL")
	case old.Thumbprint() != r.key.Thumbprint():
		return nil, problem(acme.Malformed, 0, "oldKey: it is not the account's key; send that")
	}
	return inner.Header.Key, nil
}

// keyTaken returns the conflict with the account that has the key.
func (s *Server) keyTaken(ctx context.Context, key *jws.Key) error {
	other, err := s.cfg.Storage.AccountByKey(ctx, key.Thumbprint())
	if err != nil {
		return fmt.Errorf("read the account of a new key: %w", err)
	}
	return &Refusal{
		Problem: problem(acme.Malformed, http.StatusConflict, "an account has the new key already; generate another one"),
		header:  http.Header{"Location": {s.accountURL(other.ID)}},
	}
}
