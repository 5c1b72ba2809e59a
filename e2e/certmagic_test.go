package e2e

import (
	"context"
	"testing"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

// certmagicClient is github.com/caddyserver/certmagic, which has a certificate for each
// name.
type certmagicClient struct {
	*site
	config *certmagic.Config
	issuer *certmagic.ACMEIssuer
}

func startCertmagic(t *testing.T, s *site) client {
	c := &certmagicClient{site: s}
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return c.config, nil },
		Logger:           zap.NewNop(),
	})
	t.Cleanup(cache.Stop)
	c.config = certmagic.New(cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: s.path("certmagic")}, Logger: zap.NewNop(),
	})
	issuer := certmagic.ACMEIssuer{
		CA: s.directory, Email: "admin@example.com", Agreed: true, TrustedRoots: s.pool,
		ListenHost: "127.0.0.1", AltHTTPPort: s.port, DisableTLSALPNChallenge: true, Logger: zap.NewNop(),
	}
	if s.kid != "" {
		issuer.ExternalAccount = &acme.EAB{KeyID: s.kid, MACKey: s.hmac}
	}
	c.issuer = certmagic.NewACMEIssuer(c.config, issuer)
	c.config.Issuers = []certmagic.Issuer{c.issuer}
	return c
}

func (*certmagicClient) register(context.Context) error {
	return &lacking{"certmagic registers when it orders the first certificate"}
}

func (c *certmagicClient) issue(ctx context.Context, names ...string) ([]*certificate, error) {
	return c.each(ctx, names, c.config.ObtainCertSync)
}

func (c *certmagicClient) renew(ctx context.Context, names ...string) ([]*certificate, error) {
	return c.each(ctx, names, func(ctx context.Context, name string) error {
		return c.config.RenewCertSync(ctx, name, true)
	})
}

// each calls a function for each name and returns the stored certificates.
func (c *certmagicClient) each(
	ctx context.Context, names []string, get func(context.Context, string) error,
) ([]*certificate, error) {
	var all []*certificate
	for _, name := range names {
		if err := get(ctx, name); err != nil {
			return nil, err
		}
		var files [2][]byte
		for i, key := range []string{
			certmagic.StorageKeys.SiteCert(c.issuer.IssuerKey(), name),
			certmagic.StorageKeys.SitePrivateKey(c.issuer.IssuerKey(), name),
		} {
			var err error
			if files[i], err = c.config.Storage.Load(ctx, key); err != nil {
				return nil, err
			}
		}
		cert, err := newCertificate(files[0], files[1])
		if err != nil {
			return nil, err
		}
		all = append(all, cert)
	}
	return all, nil
}

func (c *certmagicClient) revoke(ctx context.Context, cert *certificate) error {
	return c.config.RevokeCert(ctx, cert.leaf.DNSNames[0], acme.ReasonSuperseded, false)
}

func (*certmagicClient) rollover(context.Context) error {
	return &lacking{"certmagic has no function that changes the account key"}
}
