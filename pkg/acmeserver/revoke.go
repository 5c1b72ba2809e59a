package acmeserver

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// reasons are those that a client may give (RFC 5280, section 5.3.1). The others are for
// CAs.
var reasons = []int{0, 1, 3, 4, 5, 9}

// revoke revokes a certificate (RFC 8555, section 7.6). The request is signed by the
// account that has it, by an account that is authorized for all its names, or by the
// certificate's key.
func (s *Server) revoke(ctx context.Context, r *request) (*answer, error) {
	revoker, ok := (*s.issuer.Load()).(Revoker)
	if !ok {
		return nil, problem(acme.Unauthorized, 0, "this server revokes no certificates")
	}
	leaf, reason, err := parseRevocation(r.payload)
	if err != nil {
		return nil, err
	}
	presented := describeLeaf(leaf)
	known, err := s.cfg.Storage.CertificatesByFingerprint(ctx, presented.Fingerprint)
	if err != nil {
		return nil, fmt.Errorf("find the certificate: %w", err)
	}
	if err := s.mayRevoke(ctx, r, leaf, known); err != nil {
		return nil, err
	}
	c := presented
	if len(known) > 0 {
		c = known[max(0, slices.IndexFunc(known, func(k Certificate) bool { return k.AccountID == r.account.ID }))]
	} else if c.KeyHash, err = keyHash(leaf.PublicKey); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(known, func(k Certificate) bool { return !k.RevokedAt.IsZero() }) {
		return nil, alreadyRevoked()
	}
	allowed := RevokeRequest{Certificate: c, Leaf: leaf, Reason: reason, Account: r.account, Addr: r.addr}
	if err := revoker.Revoke(ctx, allowed); err != nil {
		return nil, fmt.Errorf("revoke a certificate: %w", err)
	}
	if len(known) == 0 {
		return &answer{}, nil
	}
	switch err := s.cfg.Storage.SetRevoked(ctx, c.Fingerprint, s.cfg.Now(), reason); {
	case errors.Is(err, ErrExists): // by a request at the same time
		return nil, alreadyRevoked()
	case err != nil: // a repeated request revokes again, which is no error
		return nil, fmt.Errorf("record a revocation: %w", err)
	}
	return &answer{}, nil
}

func alreadyRevoked() error {
	return problem(acme.AlreadyRevoked, 0, "the certificate is revoked already")
}

// parseRevocation reads the payload of revokeCert. An error is a problem.
func parseRevocation(payload []byte) (leaf *x509.Certificate, reason int, err error) {
	var in struct {
		Certificate string `json:"certificate"`
		Reason      int    `json:"reason"`
	}
	if err := decode(payload, &in); err != nil {
		return nil, 0, err
	}
	der, err := decodeDER("certificate", in.Certificate, cert.MaxLeaf)
	if err != nil {
		return nil, 0, err
	}
	if leaf, err = x509.ParseCertificate(der); err != nil {
		return nil, 0, problem(acme.Malformed, 0, "certificate: it is not a certificate in DER")
	}
	if err := cert.CheckSize(leaf.PublicKey); err != nil {
		return nil, 0, problem(acme.Malformed, 0, "certificate: "+err.Error())
	}
	if !slices.Contains(reasons, in.Reason) {
		return nil, 0, problem(acme.BadRevocationReason, 0, "reason: it must be one of 0, 1, 3, 4, 5, 9")
	}
	return leaf, in.Reason, nil
}

// mayRevoke returns why a request may not revoke a certificate. An error is a problem or
// one of the storage.
func (s *Server) mayRevoke(ctx context.Context, r *request, leaf *x509.Certificate, known []Certificate) error {
	if r.account.ID == "" {
		if !cert.SameKey(leaf.PublicKey, r.key.Public()) {
			return problem(acme.Unauthorized, 0, "the request is not signed with the certificate's key")
		}
		return nil
	}
	if slices.ContainsFunc(known, func(k Certificate) bool { return k.AccountID == r.account.ID }) {
		return nil
	}
	if len(known) == 0 {
		return problem(acme.Malformed, http.StatusNotFound,
			"certificate: this server does not know it; sign the request with the certificate's key")
	}
	names, err := cert.LeafNames(leaf)
	if err != nil {
		return problem(acme.Malformed, 0, err.Error())
	}
	authorized, err := s.cfg.Storage.Authorized(ctx, r.account.ID, names, s.cfg.Now())
	switch {
	case err != nil:
		return fmt.Errorf("find authorizations: %w", err)
	case !authorized:
		return problem(acme.Unauthorized, 0, "the account neither has the certificate nor is authorized for all its names")
	}
	return s.mayStillHave(ctx, r, names)
}

// mayStillHave asks the Policy again. The rules may have changed since the account was
// authorized for the names.
func (s *Server) mayStillHave(ctx context.Context, r *request, names cert.Names) error {
	_, err := s.cfg.Policy.Order(ctx, OrderRequest{Account: r.account, Addr: r.addr, Identifiers: identifiersOf(names)})
	return err
}
