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

// Claim holds a managed certificate that this instance has leased.
type Claim struct {
	managed.Certificate
	cfg   Config
	owner string // of the lease
}

// Delivery describes how an issued bundle is stored.
type Delivery struct {
	// ClientName is the owner's name, for outcomes. It is empty for the proxy.
	ClientName string
	// Recipients can open the bundle. If nil, the bundle is sealed to the recipients
	// that the client has when it is stored.
	Recipients []age.Recipient
	// Deploy makes a deployment due when the bundle is stored.
	Deploy bool
}

// Obtain obtains and stores a bundle for the row. It continues the order of the
// journal. So a crash at any point loses nothing.
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
		CA:      j.order.CA, // of the order to continue; a new one goes to the default CA
		Order:   j.order,
		OnOrder: func(ctx context.Context, order cert.Order) error {
			return c.save(ctx, j, order)
		},
		OnInvalid: func(ctx context.Context) (bool, error) { return c.replaceInvalid(ctx, j) },
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

// entry is the journal entry of one order. It holds what is needed to finish the
// order after a crash.
type entry struct {
	order cert.Order // empty before the order exists
	csr   []byte
	key   crypto.Signer // nil if the client has it
	begun time.Time     // when the order was stored; zero before
}

// journal reads the entry of an unfinished order, or begins a new one.
func (c *Claim) journal(ctx context.Context) (entry, error) {
	row, err := c.cfg.Store.OrderFor(ctx, c.ID)
	switch {
	case errors.Is(err, managed.ErrNotFound):
		return c.begin(ctx)
	case err != nil:
		return entry{}, err
	case !c.matches(row):
		return c.begin(ctx)
	case c.isHopeless(row):
		c.cfg.Logger.Warn("an order is given up, since no attempt could finish it", "names", c.Names, "begun", row.CreatedAt)
		return c.begin(ctx)
	}
	j := entry{order: cert.Order{CA: row.CA, URL: row.URL}, csr: row.CSR, begun: row.CreatedAt}
	if len(row.SealedKey) == 0 {
		return j, nil
	}
	pem, err := seal.Open(row.SealedKey, c.cfg.Identity)
	if err != nil {
		return c.begin(ctx) // the identity file was replaced, so begin a new order
	}
	j.key, err = cert.ParseKey(pem)
	return j, err
}

// matches reports whether a journaled order still matches the row.
func (c *Claim) matches(row managed.Order) bool {
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
	orderLife  = 24 * time.Hour // an older order is given up if it was resumed without success
	leastOrder = time.Hour      // the same limit when the certificate is about to expire
	lastChance = 12 * time.Hour // before the certificate expires; less for short lifetimes
)

// isHopeless reports whether the CA has failed to finish an order for so long that
// only a new one may succeed. The CA may have lost a part of the order, for instance.
// A limit of a day lets a CA be down for hours without a second order, and bounds
// the orders for a name. One more is allowed shortly before the certificate expires.
func (c *Claim) isHopeless(row managed.Order) bool {
	if c.Failures < 2 {
		return false // the order was not resumed yet; the proxy may have been stopped
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

// save writes the journal. The key is sealed to the proxy's own identity. The entry
// is deleted in the transaction that stores the bundle.
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

// replaceInvalid reports whether another order may replace the journaled one, which the CA
// made invalid. If no failure was recorded since it began, its attempts were killed. A
// restart heals that at once. The order that replaces it counts as a try, which bounds a
// crash loop.
func (c *Claim) replaceInvalid(ctx context.Context, j entry) (bool, error) {
	if c.LastErrorAt.After(j.begun) {
		return true, nil
	}
	err := work.Persist(ctx, func(ctx context.Context) error {
		return c.cfg.Store.CountTry(ctx, c.owner, c.ID, StartTries)
	})
	if errors.As(err, new(*managed.NotNow)) {
		return false, nil
	}
	return err == nil, err
}

// settle deletes the journal entry of an order that can never be finished. It
// returns cause.
func (c *Claim) settle(ctx context.Context, cause error) error {
	var e *acme.Error
	if errors.As(cause, &e) && e.Kind == acme.Permanent {
		if err := c.cfg.Store.DeleteOrder(ctx, c.owner, c.ID); err != nil && !errors.Is(err, managed.ErrLost) {
			return errors.Join(cause, err)
		}
	}
	return cause
}

// complete seals the bundle and replaces the old one in one transaction. It ignores
// the end of ctx, so that a shutdown does not lose the certificate.
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
			continue // the client's recipients changed meanwhile
		}
		if err != nil {
			return fmt.Errorf("store the certificate: %w", err)
		}
		break
	}
	c.cfg.Logger.Info("certificate obtained", "mode", c.Mode, "names", c.Names, "serial", b.Serial(), "not_after", b.NotAfter())
	return nil
}

// seal returns the row to store, with the sealed bundle.
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
		row.ARIID = "" // this certificate has no ARI id
	}
	return row, nil
}

// clientRecipients returns the client's present recipients, parsed and as text. They
// may have changed since the work on the certificate began.
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

// NoRecipients returns the error that a client has no recipients to seal a bundle to.
func NoRecipients(client string) error {
	return fmt.Errorf("client %q has no recipients, so nothing can be sealed to it; enrol its host with the token of acmeproxy clients token %s", client, client)
}

// dueAt returns the time of the next renewal. It spreads renewals, so that
// certificates that were ordered together are not renewed together. A new
// certificate may look old because a clock is wrong. To prevent a loop of orders,
// each one is used for at least a tenth of its lifetime.
func (c *Claim) dueAt(b *cert.Bundle) time.Time {
	life := b.Leaf.NotAfter.Sub(b.Leaf.NotBefore)
	due := b.RenewAt().Add(-rand.N(1 + life/20))
	if earliest := c.cfg.Now().Add(life / 10); due.Before(earliest) {
		return earliest
	}
	return due
}

// ETag returns the first 16 bytes of a ciphertext's SHA-256, in hexadecimal.
func ETag(ciphertext []byte) string {
	sum := sha256.Sum256(ciphertext)
	return hex.EncodeToString(sum[:16])
}
