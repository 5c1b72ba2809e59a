package acmeserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// accountOf returns the account that the kid of a request names. Its signature is not
// verified yet.
func (s *Server) accountOf(ctx context.Context, kid string) (Account, error) {
	id, ok := strings.CutPrefix(kid, s.url(pathAccount))
	if !ok || !isID(id) {
		return Account{}, problem(acme.AccountDoesNotExist, 0,
			"kid: it is no account of this server; register again, because its address may have changed")
	}
	a, err := s.cfg.Storage.AccountByID(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return Account{}, problem(acme.AccountDoesNotExist, 0, "kid: this account does not exist; register again")
	case err != nil:
		return Account{}, fmt.Errorf("read account %s: %w", id, err)
	}
	return a, nil
}

// mayUse refuses a request whose account must not be used, after its signature was
// verified. Changed terms of service stop new orders only: those in progress may finish,
// and a client must always be able to revoke, to change its key, and to agree.
func (s *Server) mayUse(ctx context.Context, r *request) error {
	if err := checkStatus(r.account); err != nil {
		return err
	}
	if err := s.cfg.Accounts.Allow(ctx, r.account, r.addr); err != nil {
		return err
	}
	if s.cfg.Terms != "" && r.account.Terms != s.cfg.Terms && r.URL.EscapedPath() == s.base+pathNewOrder {
		return s.termsRefusal("the terms of service have changed; agree to " + s.cfg.Terms)
	}
	return nil
}

// checkStatus refuses an account that is not valid (RFC 8555, section 7.3.6, which
// demands status 401).
func checkStatus(a Account) error {
	if a.Status != StatusValid {
		return problem(acme.Unauthorized, http.StatusUnauthorized,
			"the account is "+string(a.Status)+"; register another one with a new key")
	}
	return nil
}

// termsRefusal asks for the agreement to the terms of service (RFC 8555, section 7.3.3).
func (s *Server) termsRefusal(detail string) error {
	return &Refusal{
		Problem: &acme.Problem{Type: acme.UserActionRequired, Detail: detail, Instance: s.cfg.Terms},
		header:  http.Header{"Link": {link(s.cfg.Terms, "terms-of-service")}},
	}
}
