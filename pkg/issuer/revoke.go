package issuer

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// revokeTimeout is the timeout for one revocation or one download.
const revokeTimeout = 20 * time.Second

// Revoke revokes a certificate with the account's key (RFC 8555, section 7.6). It
// succeeds if the certificate is revoked already, so that it can be repeated after a
// crash. The error is always an *acme.Error.
func (ca *CA) Revoke(ctx context.Context, leafDER []byte, reason cert.Reason) error {
	const op = "revoke the certificate"
	return ca.asAccount(ctx, func(s *session, core *api.Core) error {
		if core.GetDirectory().RevokeCertURL == "" {
			return permanent(op, "the CA's directory has no revokeCert, so the CA cannot revoke")
		}
		code := reason.Code()
		_, err := repeat(s, isTransient, func() (struct{}, error) {
			return struct{}{}, core.Certificates.Revoke(legoacme.RevokeCertMessage{
				Certificate: base64.RawURLEncoding.EncodeToString(leafDER),
				Reason:      &code,
			})
		})
		if err == nil || isProblem(err, acme.AlreadyRevoked) {
			return nil
		}
		return classify(op, err, time.Time{})
	})
}

// Certificate downloads an issued certificate again from its bundle's URL. The error
// is always an *acme.Error.
func (ca *CA) Certificate(ctx context.Context, certURL string) (leaf *x509.Certificate, err error) {
	const op = "read the certificate again"
	err = ca.asAccount(ctx, func(s *session, core *api.Core) error {
		bundle, err := read(s, func() (*cert.Bundle, error) {
			chain, _, err := core.Certificates.Get(certURL, true)
			if err != nil {
				return nil, err
			}
			return cert.ParseBundle(chain)
		})
		if statusOf(err) == http.StatusNotFound { // read has repeated it
			return permanent(op, "the CA does not know the certificate")
		}
		if err != nil {
			return classify(op, err, time.Time{})
		}
		leaf = bundle.Leaf
		return nil
	})
	return leaf, err
}

// asAccount calls do with the account's key. It does not replace an account that the
// CA lost, because the new one would own no certificate.
func (ca *CA) asAccount(ctx context.Context, do func(*session, *api.Core) error) error {
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	acc, err := ca.account(ctx)
	if err != nil {
		return err
	}
	s := ca.wire.session(ctx)
	core, err := ca.newCore(s, acc)
	if err != nil {
		return err
	}
	return do(s, core)
}
