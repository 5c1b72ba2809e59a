package acmeserver

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// challengeTypes returns the types that have a validator, sorted.
func challengeTypes(validators map[string]Validator) []string {
	return slices.Sorted(maps.Keys(validators))
}

// newOrder creates an order (RFC 8555, section 7.4).
func (s *Server) newOrder(ctx context.Context, r *request) (*answer, error) {
	req, all, err := s.parseOrder(ctx, r)
	if err != nil {
		return nil, err
	}
	terms, err := s.cfg.Policy.Order(ctx, req)
	if err != nil {
		return nil, err
	}
	o, err := s.buildOrder(req, all, terms)
	if err != nil {
		return nil, err
	}
	err = s.cfg.Storage.CreateOrder(ctx, o, s.cfg.Limits.Orders)
	if errors.Is(err, ErrNotFound) {
		o.Replaces = ""
		err = s.cfg.Storage.CreateOrder(ctx, o, s.cfg.Limits.Orders)
	}
	switch {
	case errors.Is(err, ErrReplaced):
		return nil, problem(acme.AlreadyReplaced, 0,
			"replaces: another order replaces that certificate already; leave the field out")
	case errors.Is(err, ErrTooMany):
		// Clients that get 429 would wait silently until the orders expire.
		return nil, problem(acme.RateLimit, http.StatusForbidden, fmt.Sprintf(
			"there are %d orders that are unfinished, failed or repeated, which is the limit; finish them, or wait until they expire",
			s.cfg.Limits.Orders))
	case err != nil:
		return nil, fmt.Errorf("create an order: %w", err)
	}
	a := s.describeOrder(&o)
	a.status = http.StatusCreated
	return a, nil
}

// parseOrder checks the form of a request for an order. all has the identifiers as the
// client sent them, in lower case. An error is a problem or one of the storage.
func (s *Server) parseOrder(ctx context.Context, r *request) (req OrderRequest, all []acme.Identifier, err error) {
	var in struct {
		Identifiers []acme.Identifier `json:"identifiers"`
		NotBefore   string            `json:"notBefore"`
		NotAfter    string            `json:"notAfter"`
		Profile     string            `json:"profile"`
		Replaces    string            `json:"replaces"`
	}
	if err := decode(r.payload, &in); err != nil {
		return OrderRequest{}, nil, err
	}
	req = OrderRequest{Account: r.account, Addr: r.addr, Profile: in.Profile, Replaces: in.Replaces}
	if all, req.Identifiers, err = parseIdentifiers(in.Identifiers, s.cfg.Limits.Identifiers); err != nil {
		return OrderRequest{}, nil, err
	}
	if err := s.checkProfile(ctx, in.Profile); err != nil {
		return OrderRequest{}, nil, err
	}
	if req.NotBefore, req.NotAfter, err = s.parseDates(in.NotBefore, in.NotAfter); err != nil {
		return OrderRequest{}, nil, err
	}
	if req.Replaces, err = s.parseReplaces(ctx, req); err != nil {
		return OrderRequest{}, nil, err
	}
	return req, all, nil
}

// checkProfile refuses a profile that the CA does not have.
func (s *Server) checkProfile(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	ca := s.meta(ctx)
	_, known := ca.Profiles[name]
	switch {
	case known:
		return nil
	case ca.RetryAfter > 0: // not invalidProfile: the client would order without it
		return &Refusal{
			Problem:    problem(acme.ServerInternal, http.StatusServiceUnavailable, "profile: the CA's list of profiles cannot be read yet; try again later"),
			RetryAfter: ca.RetryAfter,
		}
	}
	return problem(acme.InvalidProfile, 0, unknownProfile(name, ca.Profiles))
}

func unknownProfile(name string, profiles map[string]string) string {
	detail := fmt.Sprintf("profile: %q is unknown; ", cut(name, 64))
	if len(profiles) == 0 {
		return detail + "leave it out"
	}
	return detail + "use one of " + few(slices.Sorted(maps.Keys(profiles)))
}

// parseDates reads the requested dates of the certificate.
func (s *Server) parseDates(before, after string) (notBefore, notAfter time.Time, err error) {
	if before == "" && after == "" {
		return time.Time{}, time.Time{}, nil
	}
	if !s.cfg.Dates {
		return time.Time{}, time.Time{}, problem(acme.Malformed, 0,
			"notBefore, notAfter: the CA sets the dates; leave them out")
	}
	if notBefore, err = parseDate("notBefore", before); err == nil {
		notAfter, err = parseDate("notAfter", after)
	}
	switch {
	case err != nil:
		return time.Time{}, time.Time{}, err
	case !notAfter.IsZero() && (!notAfter.After(notBefore) || !notAfter.After(s.cfg.Now())):
		return time.Time{}, time.Time{}, problem(acme.Malformed, 0, "notAfter: it is not after notBefore and the present")
	}
	return notBefore, notAfter, nil
}

func parseDate(field, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Year() < 1950 || t.Year() > 9999 { // what certificates can have
		return time.Time{}, problem(acme.Malformed, 0, field+": it is no date; write it like 2026-01-31T12:00:00Z")
	}
	return second(t), nil
}

// parseReplaces returns the certificate that an order replaces (RFC 9773, section 5). It
// is empty if that is not one of the account, or has no identifier of the order. Clients
// send the certificate that they hold, which another account or CA may have issued, and
// most of them would not repeat a refused order without it. The storage checks the rest
// when it creates the order.
func (s *Server) parseReplaces(ctx context.Context, r OrderRequest) (ariID string, err error) {
	if r.Replaces == "" {
		return "", nil
	}
	if !isARIID(r.Replaces) {
		return "", problem(acme.Malformed, 0, "replaces: it is no identifier of a certificate (RFC 9773, section 4.1)")
	}
	c, err := s.cfg.Storage.CertificateByARI(ctx, r.Replaces)
	switch {
	case errors.Is(err, ErrNotFound):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("find the replaced certificate: %w", err)
	}
	for _, id := range r.Identifiers {
		if c.AccountID == r.Account.ID && slices.Contains(c.Identifiers, id.Value) {
			return r.Replaces, nil
		}
	}
	return "", nil
}

// buildOrder returns the order that the policy allowed.
func (s *Server) buildOrder(r OrderRequest, all []acme.Identifier, terms Terms) (Order, error) {
	now := s.cfg.Now()
	life := terms.Lifetime
	if life <= 0 {
		life = s.cfg.Limits.OrderLife
	}
	o := Order{
		ID: newID(), AccountID: r.Account.ID, Owner: r.Account.Owner, Status: StatusPending, Identifiers: all,
		Profile: r.Profile, NotBefore: r.NotBefore, NotAfter: r.NotAfter, Replaces: r.Replaces,
		CreatedAt: now, Expires: now.Add(life), Share: terms.Share, Version: 1,
	}
	for _, id := range r.Identifiers {
		authz, err := s.buildAuthorization(id, terms.Challenges, now)
		if err != nil {
			return Order{}, err
		}
		o.Authorizations = append(o.Authorizations, authz)
	}
	o.advance()
	return o, nil
}

// buildAuthorization returns the authorization of one identifier. If no challenge is
// demanded, it is valid, and holds one valid challenge, since clients expect one.
func (s *Server) buildAuthorization(
	id acme.Identifier, demanded func(acme.Identifier) []string, now time.Time,
) (Authorization, error) {
	authz := Authorization{Identifier: id, Status: StatusPending}
	authz.Identifier.Value, authz.Wildcard = strings.CutPrefix(id.Value, "*.")
	var types []string
	if demanded != nil {
		types = demanded(id)
	}
	if len(types) == 0 {
		kind := acme.HTTP01
		if authz.Wildcard {
			kind = acme.DNS01
		}
		authz.Status = StatusValid
		authz.Challenges = []Challenge{{Type: kind, Token: newToken(), Status: StatusValid, Validated: now}}
		return authz, nil
	}
	for _, kind := range types {
		if s.cfg.Validators[kind] == nil {
			return Authorization{}, fmt.Errorf("the policy demands the challenge %q, which has no validator", kind)
		}
		if authz.challenge(kind) == nil {
			authz.Challenges = append(authz.Challenges, Challenge{Type: kind, Token: newToken(), Status: StatusPending})
		}
	}
	return authz, nil
}

// newToken returns the token of a challenge (RFC 8555, section 8.1).
func newToken() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// advance sets the status of a pending or ready order by its authorizations.
func (o *Order) advance() {
	if o.Status != StatusPending && o.Status != StatusReady {
		return
	}
	o.Status = StatusReady
	for i := range o.Authorizations {
		switch o.Authorizations[i].Status {
		case StatusValid:
		case StatusPending:
			if o.Status == StatusReady {
				o.Status = StatusPending
			}
		default:
			o.Status = StatusInvalid
		}
	}
}

// order returns an order (RFC 8555, section 7.4).
func (s *Server) order(ctx context.Context, r *request) (*answer, error) {
	if err := mustBeGet(r); err != nil {
		return nil, err
	}
	o, err := s.ownOrder(ctx, r)
	if err != nil {
		return nil, err
	}
	return s.describeOrder(&o), nil
}

// ownOrder returns the order in the request's path. An error is a problem or one of the
// storage.
func (s *Server) ownOrder(ctx context.Context, r *request) (Order, error) {
	o, err := s.cfg.Storage.Order(ctx, r.PathValue("id"))
	switch {
	case errors.Is(err, ErrNotFound):
		return Order{}, notFound("order")
	case err != nil:
		return Order{}, fmt.Errorf("read an order: %w", err)
	case o.AccountID != r.account.ID:
		return Order{}, problem(acme.Unauthorized, 0, "the order belongs to another account")
	}
	return o, nil
}

// mustBeGet refuses a request with a payload where only POST-as-GET is defined (RFC
// 8555, section 6.3).
func mustBeGet(r *request) error {
	if !r.asGet() {
		return problem(acme.Malformed, 0, "payload: it must be empty here (POST-as-GET)")
	}
	return nil
}

// maxTries bounds how often a change is tried again after others changed the record.
const maxTries = 10

// errUnchanged ends an editOrder without a change and without an error.
var errUnchanged = errors.New("nothing to change")

// editOrder changes the order in the request's path. change may be called again, with
// the order as another request left it. If it returns an error, nothing is stored.
func (s *Server) editOrder(ctx context.Context, r *request, change func(*Order) error) (Order, error) {
	for range maxTries {
		o, err := s.ownOrder(ctx, r)
		if err != nil {
			return Order{}, err
		}
		switch err := change(&o); {
		case errors.Is(err, errUnchanged):
			return o, nil
		case err != nil:
			return Order{}, err
		}
		switch err := s.cfg.Storage.UpdateOrder(ctx, o); {
		case err == nil:
			o.Version++
			return o, nil
		case !errors.Is(err, ErrStale):
			return Order{}, fmt.Errorf("change an order: %w", err)
		}
	}
	return Order{}, busyProblem()
}

// busyProblem is the answer if others change an order all the time.
func busyProblem() error {
	return &Refusal{
		Problem: problem(acme.ServerInternal, http.StatusServiceUnavailable,
			"the order is being changed; send the request again"),
		RetryAfter: time.Second,
	}
}

// index returns the index of an authorization in the request's path.
func (o *Order) index(r *request) (int, error) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 0 || n >= len(o.Authorizations) || strconv.Itoa(n) != r.PathValue("n") {
		return 0, notFound("authorization")
	}
	return n, nil
}
