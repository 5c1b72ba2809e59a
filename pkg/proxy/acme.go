package proxy

import (
	"context"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net/http"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/sqlstore"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/acme"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/modes/relay"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// acmePath is the path of the ACME door.
const acmePath = "/acme"

// bindingSecretName is the name of the secret from which the HMAC keys of external
// account bindings are derived.
const bindingSecretName = "acme-eab"

// openBindingSecret loads the secret of external account bindings.
func (p *Proxy) openBindingSecret(ctx context.Context) (err error) {
	p.bindingSecret, err = openSecret(ctx, p.store, p.identity, bindingSecretName, func() ([]byte, error) {
		secret := make([]byte, auth.BindingSecretLen)
		rand.Read(secret) // never fails since Go 1.24
		return secret, nil
	})
	return err
}

// acmeDoor is the ACME server for one URL. Its accounts and orders are in the database,
// so another server can replace it when the URL changes.
type acmeDoor struct {
	url    string
	server *acmeserver.Server
}

// openACME creates the relay and the door.
func (p *Proxy) openACME(context.Context) error {
	p.relay = relay.New(relay.Config{
		Store: p.store, Audit: p.audit, BindingSecret: p.bindingSecret, OwnNames: p.ownNames,
		Known: acme.Known, Unknown: acme.Unknown, Records: sqlstore.New(p.store.DB), Sealer: sealer{p.identity},
		Logger: p.log, Now: p.cfg.Now,
		CA: func() (relay.CA, func()) {
			g, release := p.use()
			return reporting{g.pool, g.issued}, release
		},
	})
	p.onClose(p.relay.Close)
	p.acme = acme.New(acme.Config{
		Server: p.acmeServer, StrangerBody: p.cfg.Limits.StrangerBody, StrangerAnswer: p.cfg.Limits.StrangerAnswer,
		Strangers: p.cfg.Limits.Connections / 16, Requests: p.cfg.Limits.Connections / 4,
	})
	p.doorChanged = make(chan struct{}, 1)
	return p.setDoor()
}

// setDoor replaces the door if its URL has changed.
func (p *Proxy) setDoor() error {
	url := p.acmeURL()
	if door := p.door.Load(); url == "" || door != nil && door.url == url {
		if url == "" {
			p.door.Store(nil)
			p.notifyDoor()
		}
		return nil
	}
	server, err := acmeserver.New(acmeserver.Config{
		URL: url, Storage: sqlstore.New(p.store.DB), Issuer: p.relay, Policy: p.relay, Accounts: p.relay, Meta: p.relay.Meta,
		Sealer: sealer{p.identity}, Owner: p.name, Logger: p.log.With("door", "acme"), Now: p.cfg.Now,
	})
	if err != nil {
		return fmt.Errorf("the ACME door: %w", err)
	}
	p.door.Store(&acmeDoor{url, server})
	p.notifyDoor()
	return nil
}

func (p *Proxy) notifyDoor() {
	select {
	case p.doorChanged <- struct{}{}:
	default: // runDoor has not read the last one yet
	}
}

// acmeServer returns the present ACME server, or nil.
func (p *Proxy) acmeServer() http.Handler {
	if door := p.door.Load(); door != nil {
		return door.server
	}
	return nil
}

// runDoor continues the orders of the present door until ctx is done.
func (p *Proxy) runDoor(ctx context.Context) {
	for ctx.Err() == nil {
		running, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		door := p.door.Load()
		go func() {
			defer close(ended)
			if door != nil {
				door.server.Run(running)
			}
		}()
		for same := true; same && ctx.Err() == nil; same = p.door.Load() == door {
			select {
			case <-p.doorChanged:
			case <-ctx.Done():
			}
		}
		stop()
		<-ended
	}
}

// ownNames returns the names at which clients reach this proxy.
func (p *Proxy) ownNames() []string {
	g, release := p.use()
	defer release()
	return []string{g.hostname(), g.publicName()}
}

// acmeURL returns the URL of the ACME door, or an empty text without a public URL.
func (p *Proxy) acmeURL() string {
	if base := p.URL(); base != "" {
		return base + acmePath
	}
	return ""
}

// isACME reports whether a path is one of the ACME door.
func isACME(path string) bool {
	return path == acmePath || len(path) > len(acmePath) && path[:len(acmePath)+1] == acmePath+"/"
}

// selfSigned returns the API's certificate in PEM while it is self-signed, and an empty
// text otherwise.
func (p *Proxy) selfSigned() string {
	c := p.tls.named.Load()
	if c == nil || p.tls.public.Load() != nil {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Leaf.Raw}))
}

// acmeStatus returns the state of the ACME door, or nil if it has no URL.
func (p *Proxy) acmeStatus() *admin.ACMEStatus {
	door := p.door.Load()
	if door == nil {
		return nil
	}
	g, release := p.use()
	defer release()
	return &admin.ACMEStatus{Directory: door.url + "/directory", SelfSigned: p.selfSigned() != "", NotFor: g.misnamed()}
}

// misnamed returns the host of the API's URL if the certificate for the hostname is not,
// or will not be, for that name. Otherwise it returns an empty text.
func (g *generation) misnamed() string {
	name := g.publicName()
	fits := g.settings.ObtainsFor(name)
	if g.process.tls.public.Load() != nil {
		fits = g.process.tls.hasPublic(name)
	}
	if fits {
		return ""
	}
	return name
}

// logDoor logs where ACME clients find the door, and whether they can trust it.
func (p *Proxy) logDoor() {
	s := p.acmeStatus()
	if s == nil {
		return
	}
	p.log.Info("serving ACME clients", "directory", s.Directory)
	if s.SelfSigned {
		p.log.Warn("ACME clients cannot trust the directory yet, because the API's certificate is self-signed",
			"remedy", "wait until the CA has issued the one for the hostname, or let them trust it by file: acmeproxy clients acme NAME --for PROGRAM")
	}
}

// sealer seals certificates to the proxy's identity.
type sealer struct{ identity *age.X25519Identity }

// Seal implements acmeserver.Sealer.
func (s sealer) Seal(plain []byte) ([]byte, error) { return seal.Seal(plain, s.identity.Recipient()) }

// Open implements acmeserver.Sealer.
func (s sealer) Open(sealed []byte) ([]byte, error) { return seal.Open(sealed, s.identity) }
