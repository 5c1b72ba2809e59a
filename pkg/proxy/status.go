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
	"github.com/acmeproxy/acmeproxy/pkg/modes/client"
)

// Status returns the status for the admin API.
func (p *Proxy) Status(ctx context.Context) (admin.Status, error) {
	g, release := p.use()
	defer release()
	s := admin.Status{
		Version: p.cfg.Version, HTTPAddr: p.HTTPAddr(), HTTPSAddr: p.HTTPSAddr(), Hostname: g.hostname(),
		Store: p.store.String(), Directory: g.settings.ACMEDirectoryURL, Challenge: g.settings.Challenge, HTTP01: g.http01(), DNS01: g.settings.DNSProvider != "",
		Needs: g.settings.Needs(), Certificates: []admin.Certificate{},
	}
	if p.peers != nil {
		s.Instances = p.instances()
	}
	s.ACME = p.acmeStatus()
	rows, err := g.client.Status(ctx)
	for _, row := range rows {
		s.Certificates = append(s.Certificates, p.wireOwn(row))
	}
	return s, err
}

// wireOwn converts a certificate of this host to its form for the administrator.
func (p *Proxy) wireOwn(row client.Status) admin.Certificate {
	c := admin.WireCertificate(row.Certificate)
	c.Attempting = row.IsAttempted(p.cfg.Now())
	c.Name, c.Folder, c.NotConfigured = row.Name, row.Dir, !row.Configured
	if d := row.Deployment; d != nil {
		c.HookError = d.LastError
		c.Deployment = &admin.Deployment{RunBy: d.RunBy, LeaseUntil: d.LeaseUntil, NextAttempt: d.DueAt, Failures: d.Failures}
	}
	return c
}

// describeOwn describes a certificate of this host.
func (p *Proxy) describeOwn(ctx context.Context, m managed.Certificate) (admin.Certificate, error) {
	g, release := p.use()
	defer release()
	row, err := g.client.Describe(ctx, m)
	return p.wireOwn(row), err
}

// deploy makes the deployment of a certificate of this host due.
func (p *Proxy) deploy(ctx context.Context, m managed.Certificate) error {
	g, release := p.use()
	defer release()
	return g.client.Deploy(ctx, m)
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

// file returns the path of the configuration file, as serve was given it.
func (p *Proxy) file() string { return p.currentSettings().File }

func (p *Proxy) adminConfig() admin.Config {
	return admin.Config{
		Store: p.store, Audit: p.audit, Registrar: p.registrar, Status: p.Status, SelfSigned: p.selfSigned, RefusesACME: p.relay.Refuses, CA: p.ca, Publish: p.publishProbe, Reload: p.Reload, File: p.file, Logger: p.log, Now: p.cfg.Now,
		Own: p.describeOwn, Renew: p.RenewNow, Revoke: p.revokeByAdmin, ReplaceableAt: p.replaceableAt, Deploy: p.deploy,
		Forgotten: func(certID string) { p.tell(certID, (*agent.Agent).Forgotten) },
	}
}
