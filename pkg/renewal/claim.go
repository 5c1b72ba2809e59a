package renewal

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// Claim is a managed certificate that is ours to work on for now.
type Claim struct {
	managed.Certificate
	cfg   Config
	owner string // of the lease
}

// Delivery says what becomes of an issued bundle.
type Delivery struct {
	// ClientName is the owner's, for whoever follows outcomes; empty: the proxy.
	ClientName string
	// Recipients can open the bundle. If nil, those that the client has when it is
	// stored.
	Recipients []age.Recipient
	// Deploy makes a deployment due when the bundle is stored.
	Deploy bool
}

// Obtain takes the row from wherever it stands to a stored bundle: a crash at
// any point loses nothing, since the next Obtain finds the journal.
func (c *Claim) Obtain(ctx context.Context, d Delivery) (*cert.Bundle, error) {
	j, err := c.journal(ctx)
	if err != nil {
		return nil, err
	}
	req := cert.Request{
		Names:   c.Names,
		CSR:     j.csr,
		Profile: c.Profile,
		Client:  c.ClientID,
		CA:      j.order.CA, // of the order that continues; a new one goes to the default CA
		Order:   j.order,
		OnOrder: func(ctx context.Context, order cert.Order) error {
			return c.save(ctx, j, order)
		},
	}
	bundle, err := c.cfg.Issuer.Issue(ctx, req, c.stage)
	if err != nil {
		return nil, c.settle(ctx, err)
	}
	bundle.Key = j.key
	if err := c.complete(ctx, bundle, d); err != nil {
		return nil, err
	}
	return bundle, nil
}

// stage reports the progress of the issuance.
func (c *Claim) stage(e acme.Event) {
	if c.cfg.Stage != nil {
		c.cfg.Stage(c.Certificate, e)
	}
}

// entry is one order's journal: what is needed to finish it after a crash.
type entry struct {
	order cert.Order // empty before the order exists
	csr   []byte
	key   crypto.Signer // nil if the client has it
}

// journal reads the entry of an unfinished order, or begins a new one.
func (c *Claim) journal(ctx context.Context) (entry, error) {
	row, err := c.cfg.Store.OrderFor(ctx, c.ID)
	switch {
	case errors.Is(err, managed.ErrNotFound):
		return c.begin(ctx)
	case err != nil:
		return entry{}, err
	case !c.serves(row):
		return c.begin(ctx)
	case c.isHopeless(row):
		c.cfg.Logger.Warn("an order is given up, since no attempt could finish it", "names", c.Names, "begun", row.CreatedAt)
		return c.begin(ctx)
	}
	j := entry{order: cert.Order{CA: row.CA, URL: row.URL}, csr: row.CSR}
	if len(row.SealedKey) == 0 {
		return j, nil
	}
	pem, err := seal.Open(row.SealedKey, c.cfg.Identity)
	if err != nil {
		return c.begin(ctx) // the identity file was replaced; the CA does not mind a new order
	}
	j.key, err = cert.ParseKey(pem)
	return j, err
}

// serves tells whether a journalled order is still what the row asks for.
func (c *Claim) serves(row managed.Order) bool {
	if !c.cfg.Issuer.HasCA(row.CA) {
		return false
	}
	if len(c.CSR) > 0 {
		return slices.Equal(row.CSR, c.CSR)
	}
	csr, err := cert.ParseCSR(row.CSR)
	return err == nil && len(row.SealedKey) > 0 && string(csr.KeyType) == c.KeyType && csr.Names.Equal(c.Names)
}

const (
	orderLife  = 24 * time.Hour // an older order is given up once it was resumed in vain
	leastOrder = time.Hour      // the same for the order that uses up the time for another
	lastChance = 12 * time.Hour // before the certificate ends; less for short lives
)

// isHopeless reports whether an order was tried for so long that the CA will
// never finish it, for instance because it has lost a part of it. A new one may
// do. A day lets a CA be down for hours without costing another order, and bounds
// the orders for a name. The end of the certificate allows one more.
func (c *Claim) isHopeless(row managed.Order) bool {
	if c.Failures < 2 {
		return false // the order was not resumed yet; the proxy may have been off
	}
	now := c.cfg.Now()
	age := now.Sub(row.CreatedAt).Abs() // the clock may have been wrong
	last := c.NotAfter.Add(-min(c.NotAfter.Sub(c.NotBefore)/6, lastChance))
	isLast := !c.NotAfter.IsZero() && row.CreatedAt.Before(last) && now.After(last)
	return age >= orderLife || isLast && age >= leastOrder
}

func (c *Claim) begin(ctx context.Context) (entry, error) {
	if len(c.CSR) > 0 {
		return entry{csr: c.CSR}, nil
	}
	key, err := c.cfg.Issuer.GenerateKey(ctx, c.ClientID, cert.KeyType(c.KeyType))
	if err != nil {
		return entry{}, err
	}
	csr, err := cert.NewCSR(key, c.Names)
	return entry{csr: csr, key: key}, err
}

// save writes the journal. The key is sealed to the proxy's own identity, and
// the row goes as soon as the bundle is stored.
func (c *Claim) save(ctx context.Context, j entry, order cert.Order) error {
	row := managed.Order{ManagedID: c.ID, CA: order.CA, URL: order.URL, CSR: j.csr}
	if j.key != nil {
		pem, err := cert.MarshalKey(j.key)
		if err != nil {
			return err
		}
		if row.SealedKey, err = seal.Seal(pem, c.cfg.Identity.Recipient()); err != nil {
			return err
		}
	}
	return work.Persist(ctx, func(ctx context.Context) error { return c.cfg.Store.SaveOrder(ctx, c.owner, row) })
}

// settle drops the journal of an order that can never be finished.
func (c *Claim) settle(ctx context.Context, cause error) error {
	var e *acme.Error
	if errors.As(cause, &e) && e.Kind == acme.Permanent {
		if err := c.cfg.Store.DeleteOrder(ctx, c.owner, c.ID); err != nil && !errors.Is(err, managed.ErrLost) {
			return errors.Join(cause, err)
		}
	}
	return cause
}

// complete seals the bundle and swaps it for the old one in one transaction.
// The certificate exists now: being asked to stop must not lose it.
func (c *Claim) complete(ctx context.Context, b *cert.Bundle, d Delivery) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	plain, err := b.PEM()
	if err != nil {
		return err
	}
	for {
		row, err := c.seal(ctx, b, plain, d)
		if err != nil {
			return err
		}
		err = work.Persist(ctx, func(ctx context.Context) error {
			return c.cfg.Store.CompleteManaged(ctx, c.owner, row, c.dueAt(b), d.Deploy)
		})
		if errors.Is(err, managed.ErrStale) {
			continue // somebody enrolled meanwhile, or was thrown out
		}
		if err != nil {
			return fmt.Errorf("store the certificate: %w", err)
		}
		break
	}
	c.cfg.Logger.Info("certificate obtained", "mode", c.Mode, "names", c.Names, "serial", b.Serial(), "not_after", b.NotAfter())
	return nil
}

// seal makes what is to be stored.
func (c *Claim) seal(ctx context.Context, b *cert.Bundle, plain []byte, d Delivery) (row managed.Bundle, err error) {
	recipients := d.Recipients
	if recipients == nil {
		if recipients, row.SealedTo, err = c.clientRecipients(ctx); err != nil {
			return row, err
		}
	}
	if row.Ciphertext, err = seal.Seal(plain, recipients...); err != nil {
		return row, err
	}
	row.ManagedID, row.ETag, row.Serial = c.ID, ETag(row.Ciphertext), b.Serial()
	row.NotBefore, row.NotAfter = b.Leaf.NotBefore, b.Leaf.NotAfter
	row.CA, row.CertificateURL = b.CA, b.URL
	if row.ARIID, err = acme.CertID(b.Leaf); err != nil {
		row.ARIID = "" // such a certificate has none
	}
	return row, nil
}

// clientRecipients are those of the client as it is now. Nothing is ever sealed
// to those that it had when the work on the certificate began.
func (c *Claim) clientRecipients(ctx context.Context) ([]age.Recipient, []string, error) {
	client, err := c.cfg.Store.ClientByID(ctx, c.ClientID)
	if err != nil {
		return nil, nil, err
	}
	recipients, err := seal.ParseRecipients(client.Recipients)
	if err == nil && len(recipients) == 0 {
		err = NoRecipients(client.Name)
	}
	for _, r := range client.Recipients {
		if bits := seal.RSABits(r); bits > seal.MaxRSABits {
			c.cfg.Logger.Warn("large RSA key of a recipient makes renewals slow; new ones are refused", "client", client.Name, "bits", bits, "limit", seal.MaxRSABits)
		}
	}
	return recipients, client.Recipients, err
}

// NoRecipients says that nobody could open what is obtained for a client.
func NoRecipients(client string) error {
	return fmt.Errorf("client %q has no recipients, so nothing can be sealed to it: enrol its host with the token of acmeproxy clients token %s", client, client)
}

// dueAt spreads renewals over some days, so that certificates that were
// ordered together are not renewed together. A certificate that looks old
// already, because our clock is wrong or the CA's is, must not be ordered in a
// circle: each serves for a tenth of its lifetime at least.
func (c *Claim) dueAt(b *cert.Bundle) time.Time {
	life := b.Leaf.NotAfter.Sub(b.Leaf.NotBefore)
	due := b.RenewAt().Add(-rand.N(1 + life/20))
	if earliest := c.cfg.Now().Add(life / 10); due.Before(earliest) {
		return earliest
	}
	return due
}

// ETag names a ciphertext: the first 16 bytes of its SHA-256, in hexadecimal.
func ETag(ciphertext []byte) string {
	sum := sha256.Sum256(ciphertext)
	return hex.EncodeToString(sum[:16])
}
