package proxy

import (
	"context"
	"errors"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/modes/agent"
)

// Status returns the status for the admin API.
func (p *Proxy) Status(ctx context.Context) (admin.Status, error) {
	g, release := p.use()
	defer release()
	s := admin.Status{
		Version: p.cfg.Version, HTTPAddr: p.HTTPAddr(), HTTPSAddr: p.HTTPSAddr(), Hostname: p.hostname(),
		Store: p.store.String(), Directory: g.settings.ACMEDirectoryURL, Challenge: g.settings.Challenge, HTTP01: g.http01(), DNS01: g.settings.DNSProvider != "",
		Needs: g.settings.Needs(), Certificates: []admin.Certificate{},
	}
	if p.peers != nil {
		s.Instances = p.instances()
	}
	rows, err := g.client.Status(ctx)
	for _, row := range rows {
		c := admin.WireCertificate(row.Certificate)
		if d := row.Deployment; d != nil {
			c.HookError = d.LastError
			c.Deployment = &admin.Deployment{RunBy: d.RunBy, LeaseUntil: d.LeaseUntil, NextAttempt: d.DueAt, Failures: d.Failures}
		}
		s.Certificates = append(s.Certificates, c)
	}
	return s, err
}

// http01 returns the method that publishes HTTP-01 answers.
func (g *generation) http01() string {
	switch {
	case g.settings.HTTP01Webroot != "":
		return admin.HTTP01Webroot
	case g.settings.HTTP01Hook != "":
		return admin.HTTP01Hook
	case g.settings.HTTPAddr == config.None:
		return admin.HTTP01Disabled
	}
	return admin.HTTP01Proxy
}

// ca returns the CA's identities and our account, for checks of CAA records.
func (p *Proxy) ca(ctx context.Context) (admin.CA, error) {
	g, release := p.use()
	defer release()
	ca := admin.CA{Directory: g.settings.ACMEDirectoryURL}
	account, err := p.store.AccountByDirectory(ctx, ca.Directory)
	if err != nil && !errors.Is(err, managed.ErrNotFound) {
		return ca, err
	}
	ca.AccountURL = account.URL
	ca.CAAIdentities, err = g.pool.CAAIdentities(ctx)
	return ca, err
}

// revokeFor revokes a certificate of a client that is being removed.
func (p *Proxy) revokeFor(ctx context.Context, client clients.Client, m managed.Certificate, reason cert.Reason) error {
	g, release := p.use()
	defer release()
	return g.agent.RevokeFor(ctx, client, m, reason)
}

// tell wakes the long polls for a certificate that another instance renewed or an
// administrator deleted.
func (p *Proxy) tell(certID string, news func(*agent.Agent, string)) {
	g, release := p.use()
	defer release()
	news(g.agent, certID)
}

func (p *Proxy) adminConfig() admin.Config {
	return admin.Config{
		Store: p.store, Audit: p.audit, Registrar: p.registrar, Status: p.Status, CA: p.ca, Publish: p.publishProbe, Reload: p.Reload, Logger: p.log,
		Forgotten: func(certID string) { p.tell(certID, (*agent.Agent).Forgotten) },
	}
}
