package proxy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/envproxy"
	"github.com/acmeproxy/acmeproxy/pkg/hook"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	"github.com/acmeproxy/acmeproxy/pkg/modes/agent"
	"github.com/acmeproxy/acmeproxy/pkg/modes/client"
	"github.com/acmeproxy/acmeproxy/pkg/renewal"
)

// newPool creates the issuers of the CA, with the generation's solvers.
func (g *generation) newPool() (*issuer.Pool, error) {
	p := g.process
	eab, err := readEAB(g.settings.EABKid, g.settings.EABHMACKeyFile)
	if err != nil {
		return nil, err
	}
	roots := p.cfg.RootCAs
	if roots == nil {
		if roots, err = caRoots(g.settings.CACertificates, p.cfg.Getenv); err != nil {
			return nil, err
		}
	}
	cfg := issuer.CAConfig{
		DirectoryURL:   g.settings.ACMEDirectoryURL,
		Accounts:       &issuer.StoredAccounts{Store: p.store, Identity: p.identity},
		Solvers:        g.solvers,
		Challenge:      g.settings.Challenge,
		Shared:         p.peers != nil,
		PreferredChain: g.settings.PreferredChain,
		Email:          g.settings.Email,
		AcceptTOS:      g.settings.AcceptTOS,
		EAB:            eab,
		Proxy:          envproxy.Func(p.cfg.Getenv),
		RootCAs:        roots,
		UserAgent:      "acmeproxy/" + p.cfg.Version,
		Logger:         p.log,
		Now:            p.cfg.Now,
	}
	return issuer.NewPool(issuer.PoolConfig{CAs: []issuer.CAConfig{cfg}, Shared: p.issuing})
}

func readEAB(kid, file string) (*issuer.EAB, error) {
	if kid == "" {
		return nil, nil
	}
	key, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; set it to the file that holds the HMAC key from the CA", issuer.ErrEAB, err)
	}
	return &issuer.EAB{Kid: kid, HMACKey: strings.TrimSpace(string(key))}, nil
}

// newClient creates acme-client mode.
func (g *generation) newClient() (*client.Client, error) {
	p := g.process
	sets, err := g.certificateSets()
	if err != nil {
		return nil, err
	}
	keyType, err := cert.ParseKeyType(g.settings.KeyType)
	if err != nil {
		return nil, fmt.Errorf("key-type: %w", err)
	}
	dataDir, err := filepath.Abs(g.settings.DataDir)
	if err != nil {
		return nil, err
	}
	return client.New(client.Config{
		Store: p.store, Audit: p.audit, Identity: p.identity,
		Sets: sets, KeyType: keyType, Profile: g.settings.Profile, CheckNames: g.checkOwnNames,
		Dir: g.settings.CertificatesDir(), DataDir: dataDir, Files: g.settings.Files,
		Hook:  hook.Hook{Command: g.settings.CertificateObtainedHook, Environ: p.cfg.Environ, Timeout: hookTimeout},
		Email: g.settings.Email, Owner: p.name, Installed: g.installed,
		Wake: func() { p.Deployments.Wake() }, Replaced: p.endFormer,
		Logger: p.log, Now: p.cfg.Now,
	})
}

// checkOwnNames returns an error for the administrator, who can configure DNS-01.
func (g *generation) checkOwnNames(names cert.Names) error {
	err := g.pool.CheckNames(names)
	var missing *issuer.DNS01Error
	if errors.As(err, &missing) {
		return fmt.Errorf("%s needs a DNS-01 challenge; use host names instead, or set --dns-provider", missing.Name)
	}
	return err
}

// newAgent creates certificate-agent mode.
func (g *generation) newAgent() *agent.Agent {
	p := g.process
	return agent.New(agent.Config{
		Store: p.store, Audit: p.audit, Check: g.pool.Check, CA: g.pool, Logger: p.log, Now: p.cfg.Now,
		Limit: g.settings.MaxClientCertificates,
		Wake:  func() { p.Renewals.Wake(); p.peers.NotifyDue() },
		Tell:  p.peers.NotifyNews,
		Every: p.pollInterval, Waiters: &p.waiters,
	})
}

// newQueue creates the source of renewals.
func (g *generation) newQueue(ca renewal.Issuer) *renewal.Queue {
	p := g.process
	return renewal.NewQueue(renewal.Config{
		Store: p.store, Issuer: ca, DirectoryURL: g.settings.ACMEDirectoryURL, Identity: p.identity,
		Modes:   map[clients.Mode]renewal.Mode{clients.ModeClient: g.client, clients.ModeAgent: g.agent},
		Owner:   p.name,
		Settled: p.audit.Settled, Shares: p.shares,
		Logger: p.log, Now: p.cfg.Now,
	})
}

// hookTimeout limits the run time of a certificate-obtained hook.
const hookTimeout = 10 * time.Minute

// certificateSets returns the name sets of the setting domain, and one for the API
// unless they include its hostname.
func (g *generation) certificateSets() ([]client.Set, error) {
	configured, err := g.settings.CertificateSets()
	if err != nil {
		return nil, err
	}
	var sets []client.Set
	hostname := g.hostname()
	missing := hostname != ""
	for _, set := range configured {
		sets = append(sets, client.Set(set))
		missing = missing && !slices.Contains(set.Names, hostname)
	}
	if missing {
		sets = append(sets, client.Set{Names: cert.Names{hostname}, Name: hostname})
	}
	return sets, nil
}
