package acmeserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// wireAccount is an account as a client reads it (RFC 8555, section 7.1.2).
type wireAccount struct {
	Status               Status          `json:"status"`
	Contact              []string        `json:"contact,omitempty"`
	TermsOfServiceAgreed bool            `json:"termsOfServiceAgreed,omitempty"`
	Binding              json.RawMessage `json:"externalAccountBinding,omitempty"`
	Orders               string          `json:"orders"`
}

// accountAnswer returns the answer that shows an account. Its Location is the account's
// URL in each case, because clients read it there.
func (s *Server) accountAnswer(status int, a Account) *answer {
	return &answer{
		status:   status,
		location: s.accountURL(a.ID),
		body: wireAccount{
			Status: a.Status, Contact: a.Contacts,
			TermsOfServiceAgreed: a.Terms != "" && a.Terms == s.cfg.Terms,
			Binding:              a.Binding,
			Orders:               s.accountURL(a.ID) + "/orders",
		},
	}
}

func (s *Server) accountURL(id string) string { return s.url(pathAccount + id) }

// newAccountRequest is the payload of newAccount (RFC 8555, section 7.3).
type newAccountRequest struct {
	Contact              []string        `json:"contact"`
	TermsOfServiceAgreed bool            `json:"termsOfServiceAgreed"`
	OnlyReturnExisting   bool            `json:"onlyReturnExisting"`
	Binding              json.RawMessage `json:"externalAccountBinding"`
}

// newAccount creates an account. A key that has one gets that, whatever the rest of the
// request says: some clients repeat newAccount at each start, with the binding that has
// expired by then. If Allow says that the account does not exist, the binding or the
// entrance of the request replaces the former one: some clients keep their account key.
func (s *Server) newAccount(ctx context.Context, r *request) (*answer, error) {
	var in newAccountRequest
	if err := decode(r.payload, &in); err != nil {
		return nil, err
	}
	entrance := r.PathValue("entrance")
	former, err := s.cfg.Storage.AccountByKey(ctx, r.key.Thumbprint())
	switch {
	case err == nil:
		known, err := s.existingAccount(ctx, r, former)
		var gone *acme.Problem
		rebinds := !in.OnlyReturnExisting && (len(in.Binding) > 0 || entrance != "")
		if !rebinds || !errors.As(err, &gone) || gone.Type != acme.AccountDoesNotExist {
			return known, err
		}
	case !errors.Is(err, ErrNotFound):
		return nil, fmt.Errorf("read an account by its key: %w", err)
	}
	required, err := s.cfg.Accounts.RequiresBinding(ctx, entrance)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, noDirectory()
	case err != nil:
		return nil, err
	case in.OnlyReturnExisting:
		return nil, problem(acme.AccountDoesNotExist, 0,
			"no account has this key; register it without onlyReturnExisting")
	}
	a, err := s.makeAccount(ctx, r, in, required)
	if err != nil {
		return nil, err
	}
	a.Owner, err = s.cfg.Accounts.Admit(ctx, NewAccount{
		Thumbprint: a.Thumbprint, Contacts: a.Contacts, Kid: a.Kid, Entrance: entrance, Addr: r.addr, Former: former.Owner,
	})
	switch {
	case err != nil:
		return nil, noteRegistration(err, r, a.Kid)
	case former.ID != "":
		return s.rebindAccount(ctx, former, a)
	}
	return s.createAccount(ctx, r, a)
}

// rebindAccount gives an account the owner and the binding with which its client registered
// again.
func (s *Server) rebindAccount(ctx context.Context, former, a Account) (*answer, error) {
	a.ID, a.CreatedAt, a.Version = former.ID, former.CreatedAt, former.Version
	if err := s.cfg.Storage.UpdateAccount(ctx, a); err != nil { // ErrStale: the client repeats it
		return nil, fmt.Errorf("update account %s: %w", a.ID, err)
	}
	return s.accountAnswer(http.StatusOK, a), nil
}

// makeAccount returns the account that a request describes, without an owner.
func (s *Server) makeAccount(ctx context.Context, r *request, in newAccountRequest, bound bool) (Account, error) {
	if err := s.checkContacts(in.Contact); err != nil {
		return Account{}, err
	}
	if s.cfg.Terms != "" && !in.TermsOfServiceAgreed {
		return Account{}, s.termsRefusal("termsOfServiceAgreed: it must be true; agree to " + s.cfg.Terms)
	}
	a := Account{
		ID: newID(), Key: r.key.JSON(), Thumbprint: r.key.Thumbprint(), Status: StatusValid,
		Contacts: in.Contact, Terms: s.cfg.Terms, CreatedAt: s.cfg.Now(),
	}
	kid, err := s.checkBinding(ctx, r, in.Binding, bound)
	if err != nil {
		return Account{}, s.unbound(ctx, r, kid, err)
	}
	if kid != "" {
		a.Kid, a.Binding = kid, bytes.Clone(in.Binding)
	}
	return a, nil
}

func (s *Server) createAccount(ctx context.Context, r *request, a Account) (*answer, error) {
	err := s.cfg.Storage.CreateAccount(ctx, a, s.cfg.Limits.Accounts)
	switch {
	case errors.Is(err, ErrExists): // by a concurrent request with the same key
		if a, err = s.cfg.Storage.AccountByKey(ctx, a.Thumbprint); err != nil {
			return nil, fmt.Errorf("read an account by its key: %w", err)
		}
		return s.existingAccount(ctx, r, a)
	case errors.Is(err, ErrTooMany):
		// Not 429: some clients would repeat that until they are stopped.
		return nil, problem(acme.RateLimit, http.StatusForbidden,
			fmt.Sprintf("there are %d accounts for you already; use one of them, or deactivate some, which are deleted after days", s.cfg.Limits.Accounts))
	case err != nil:
		return nil, fmt.Errorf("create an account: %w", err)
	}
	return s.accountAnswer(http.StatusCreated, a), nil
}

func (s *Server) existingAccount(ctx context.Context, r *request, a Account) (*answer, error) {
	r.account = a
	if err := s.mayUse(ctx, r); err != nil {
		return nil, err
	}
	return s.accountAnswer(http.StatusOK, a), nil
}

// account shows an account, changes its contacts, or deactivates it (RFC 8555, sections
// 7.3.2 and 7.3.6). It also accepts the agreement to changed terms of service, because
// the RFC leaves open how a client agrees to them.
func (s *Server) account(ctx context.Context, r *request) (*answer, error) {
	if err := ownAccount(r); err != nil {
		return nil, err
	}
	if r.asGet() {
		return s.accountAnswer(http.StatusOK, r.account), nil
	}
	var in struct {
		Contact              *[]string `json:"contact"`
		TermsOfServiceAgreed bool      `json:"termsOfServiceAgreed"`
		Status               Status    `json:"status"`
	}
	if err := decode(r.payload, &in); err != nil {
		return nil, err
	}
	if in.Contact != nil {
		if err := s.checkContacts(*in.Contact); err != nil {
			return nil, err
		}
	}
	agrees := in.TermsOfServiceAgreed && r.account.Terms != s.cfg.Terms
	if in.Contact == nil && !agrees && in.Status != StatusDeactivated {
		return s.accountAnswer(http.StatusOK, r.account), nil // all other fields must be ignored
	}
	a, err := s.updateAccount(ctx, r, func(a *Account) {
		if in.Contact != nil {
			a.Contacts = *in.Contact
		}
		if agrees {
			a.Terms = s.cfg.Terms
		}
		if in.Status == StatusDeactivated {
			a.Status = StatusDeactivated
		}
	})
	if err != nil {
		return nil, err
	}
	return s.accountAnswer(http.StatusOK, a), nil
}

// ownAccount refuses a request for the account of another client.
func ownAccount(r *request) error {
	if r.PathValue("id") != r.account.ID {
		return problem(acme.Unauthorized, 0, "this is not the URL of the account that signed the request")
	}
	return nil
}

// updateTries is how often a change of an account that changed meanwhile is repeated.
const updateTries = 5

// updateAccount changes the account of a request and returns it. It calls change again
// if another request was faster. The account must still be valid and have the key that
// signed the request.
func (s *Server) updateAccount(ctx context.Context, r *request, change func(*Account)) (Account, error) {
	a := r.account
	for range updateTries {
		if err := checkStatus(a); err != nil {
			return Account{}, err
		}
		if a.Thumbprint != r.key.Thumbprint() {
			return Account{}, problem(acme.Unauthorized, 0,
				"the account has another key now; sign the request with that")
		}
		changed := a
		change(&changed)
		err := s.cfg.Storage.UpdateAccount(ctx, changed)
		if err == nil {
			return changed, nil
		}
		if !errors.Is(err, ErrStale) {
			return Account{}, fmt.Errorf("update account %s: %w", a.ID, err)
		}
		if a, err = s.cfg.Storage.AccountByID(ctx, a.ID); err != nil {
			return Account{}, fmt.Errorf("read account %s again: %w", r.account.ID, err)
		}
	}
	return Account{}, problem(acme.ServerInternal, http.StatusServiceUnavailable,
		"other requests change the account at the same time; try again")
}

// ordersPage is the number of orders on one page of an account's list.
const ordersPage = 100

// accountOrders lists an account's orders (RFC 8555, section 7.1.2.1).
func (s *Server) accountOrders(ctx context.Context, r *request) (*answer, error) {
	if err := ownAccount(r); err != nil {
		return nil, err
	}
	if !r.asGet() {
		return nil, problem(acme.Malformed, 0, "payload: it must be empty, as this is a list")
	}
	after := r.URL.Query().Get("after")
	if after != "" && !isID(after) {
		return nil, notFound("this page of the list")
	}
	ids, err := s.cfg.Storage.OrdersByAccount(ctx, r.account.ID, after, ordersPage+1)
	if err != nil {
		return nil, fmt.Errorf("list the orders of account %s: %w", r.account.ID, err)
	}
	a := &answer{}
	if len(ids) > ordersPage {
		ids = ids[:ordersPage]
		next := s.accountURL(r.account.ID) + "/orders?" + url.Values{"after": {ids[ordersPage-1]}}.Encode()
		a.links = []string{link(next, "next")}
	}
	orders := make([]string, len(ids)) // never null in JSON
	for i, id := range ids {
		orders[i] = s.url("/order/" + id)
	}
	a.body = struct {
		Orders []string `json:"orders"`
	}{orders}
	return a, nil
}
