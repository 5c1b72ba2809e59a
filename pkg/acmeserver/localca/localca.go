package localca

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// Config describes a CA. Names and lifetimes of CA certificates apply to those that Open
// or Rotate creates. Existing ones never change.
type Config struct {
	// Dir is the folder of the keys and of the revocations. It must be set. Open creates
	// it. One process can use it at a time.
	Dir string
	// CommonName begins the common names of the CA's certificates, such as "Example".
	// They end with "Root 1" and "Issuing 1". "Local CA" if empty.
	CommonName   string
	Organization string // CommonName if empty
	Country      string // two letters (ISO 3166-1); "XX", which means unknown, if empty
	// Lifetime of certificates for servers; 90 days if 0, at least a minute. It is also
	// the longest that an order can request.
	Lifetime time.Duration
	// RootLifetime is the lifetime of a root and its issuing certificate; 20 years if 0.
	RootLifetime time.Duration
	// URL is the base of the CRLs and CA certificates, as in
	// "http://ca.example.com/ca". Handler must serve it. Certificates contain it, so it
	// should stay. If empty, they name no CRL.
	URL string
	// Now returns the time; time.Now if nil. It must be safe for concurrent use.
	Now func() time.Time
}

// Defaults and bounds of a Config.
const (
	day             = 24 * time.Hour
	defaultLifetime = 90 * day
	minLifetime     = time.Minute
	defaultRootLife = 20 * 365 * day
)

// CA is an open CA. It implements acmeserver.Issuer, Revoker and RenewalInformer, and is
// safe for concurrent use.
type CA struct {
	cfg     Config
	lock    *os.File
	revoked *revocations
	numbers *numbers

	rotating    sync.Mutex                  // one Rotate at a time
	generations atomic.Pointer[generations] // replaced as a whole
}

var (
	_ acmeserver.Issuer          = (*CA)(nil)
	_ acmeserver.Revoker         = (*CA)(nil)
	_ acmeserver.RenewalInformer = (*CA)(nil)
)

// Open opens the CA in cfg.Dir, or creates it. The error wraps localfile.ErrLocked if
// another process has it open, and is a *localfile.ForeignError for a key that another
// user may have placed. Close releases the folder.
func Open(cfg Config) (*CA, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if err := localfile.MkdirPrivate(cfg.Dir); err != nil {
		return nil, fmt.Errorf("localca: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(cfg.Dir, "lock"), os.O_RDWR|os.O_CREATE|localfile.NoLinkNoWait, 0o600)
	if err != nil {
		return nil, fmt.Errorf("localca: %w", err)
	}
	ca := &CA{cfg: cfg, lock: lock}
	if err := localfile.TryLock(lock); err != nil {
		return nil, errors.Join(fmt.Errorf("localca: %s: %w", cfg.Dir, err), lock.Close())
	}
	if err := ca.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("localca: %w", err), ca.Close())
	}
	return ca, nil
}

// complete checks the configuration and sets the defaults.
func (c *Config) complete() error {
	c.CommonName = cmp.Or(c.CommonName, "Local CA")
	c.Organization = cmp.Or(c.Organization, c.CommonName)
	c.Country = cmp.Or(c.Country, "XX")
	c.Lifetime = cmp.Or(c.Lifetime, defaultLifetime)
	c.RootLifetime = cmp.Or(c.RootLifetime, defaultRootLife)
	if c.Now == nil {
		c.Now = time.Now
	}
	const longestName = 64 - len(" Issuing 1000") // RFC 5280, appendix A.1
	u, err := url.Parse(c.URL)
	switch {
	case c.Dir == "":
		return errors.New("localca: Dir must be set")
	case len(c.CommonName) > longestName, len(c.Organization) > 64:
		return fmt.Errorf("localca: CommonName and Organization must have at most %d and 64 bytes", longestName)
	case len(c.Country) != 2 || strings.Trim(c.Country, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "":
		return errors.New("localca: Country must have two capital letters, such as DE")
	case c.Lifetime < minLifetime || c.Lifetime > c.RootLifetime:
		return fmt.Errorf("localca: Lifetime must be between %s and RootLifetime", minLifetime)
	case c.URL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != ""):
		return errors.New("localca: URL must be like http://ca.example.com/ca")
	}
	c.URL = strings.TrimSuffix(c.URL, "/")
	return nil
}

// Close releases the folder. The CA must not be used afterwards.
func (ca *CA) Close() error {
	var err error
	if ca.revoked != nil {
		err = ca.revoked.close()
	}
	return errors.Join(err, localfile.Unlock(ca.lock), ca.lock.Close())
}

// Rotate replaces the root and the issuing certificate by new ones with new keys. If it
// fails, nothing changes, and the CA continues with the old ones. Issued certificates
// stay valid, and their CRLs continue.
func (ca *CA) Rotate(ctx context.Context) error {
	ca.rotating.Lock()
	defer ca.rotating.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	all := *ca.generations.Load()
	next, err := ca.cfg.newGeneration(all[0])
	if err != nil {
		return fmt.Errorf("localca: rotate: %w", err)
	}
	if err := next.write(ca.cfg.Dir); err != nil {
		// The next Open must not find what was not confirmed.
		if left := os.Remove(filepath.Join(ca.cfg.Dir, next.file())); !errors.Is(left, fs.ErrNotExist) {
			err = errors.Join(err, left)
		}
		return fmt.Errorf("localca: rotate: %w", err)
	}
	rotated := append(generations{next}, all...)
	ca.generations.Store(&rotated)
	return nil
}

// Root returns the current root in PEM.
func (ca *CA) Root() []byte { return ca.current().root.pem() }

// Roots returns all roots that have not expired in PEM, the current one first. Clients
// that trust all of them accept all certificates of this CA.
func (ca *CA) Roots() []byte {
	var all []byte
	for i, g := range *ca.generations.Load() {
		if i == 0 || ca.cfg.Now().Before(g.root.cert.NotAfter) {
			all = append(all, g.root.pem()...)
		}
	}
	return all
}

// current returns the generation that issues.
func (ca *CA) current() *generation { return (*ca.generations.Load())[0] }

// load reads the folder, or creates the first generation in it.
func (ca *CA) load() error {
	all, err := readGenerations(ca.cfg.Dir)
	if err != nil {
		return err
	}
	if ca.revoked, err = openRevocations(filepath.Join(ca.cfg.Dir, "revoked"), ca.cfg.Now()); err != nil {
		return err
	}
	if ca.numbers, err = openNumbers(filepath.Join(ca.cfg.Dir, numberFile)); err != nil {
		return err
	}
	if len(all) == 0 {
		if ca.revoked.count() > 0 {
			return fmt.Errorf("%s has revocations, but no keys; restore ca-1.pem from a backup, or use an empty folder", ca.cfg.Dir)
		}
		first, err := ca.cfg.newGeneration(nil)
		if err == nil {
			err = first.write(ca.cfg.Dir)
		}
		if err != nil {
			return err
		}
		all = generations{first}
	}
	ca.generations.Store(&all)
	return nil
}

// issuerOf returns the authority whose key signed a certificate for a server, or nil.
func (ca *CA) issuerOf(leaf *x509.Certificate) *authority {
	for _, g := range *ca.generations.Load() {
		if leaf.CheckSignatureFrom(g.issuing.cert) == nil {
			return g.issuing
		}
	}
	return nil
}
