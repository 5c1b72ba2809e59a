package acmeserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// mostAlternates bounds the chains of one certificate.
const mostAlternates = 8

// newCertificate checks what the issuer returned for an order, and returns the record.
func (s *Server) newCertificate(o *Order, csr *cert.CSR, issued Issued) (Certificate, error) {
	now := s.cfg.Now()
	bundle, err := cert.NewBundle(issued.Chain, nil, csr.Public, names(o.Identifiers))
	if err != nil {
		return Certificate{}, &nonsense{"the issuer's certificate: " + err.Error()}
	}
	if err := checkDates(o, bundle.Leaf, now); err != nil {
		return Certificate{}, &nonsense{"the issuer's certificate: " + err.Error()}
	}
	c := describeLeaf(bundle.Leaf)
	c.ID, c.OrderID, c.AccountID, c.Owner = newID(), o.ID, o.AccountID, o.Owner
	c.KeyHash, c.Identifiers, c.State, c.CreatedAt = o.KeyHash, names(o.Identifiers), issued.State, now
	chains := [][]byte{bundle.FullchainPEM()}
	for _, alternate := range issued.Alternates[:min(len(issued.Alternates), mostAlternates)] {
		other, err := cert.NewBundle(alternate, nil, csr.Public, names(o.Identifiers))
		if err != nil || !other.Leaf.Equal(bundle.Leaf) {
			s.logger(*o).Warn("an alternate chain of the issuer does not fit the certificate")
			continue
		}
		chains = append(chains, other.FullchainPEM())
	}
	for _, chain := range chains {
		if chain, err = s.seal(chain); err != nil {
			return Certificate{}, err
		}
		c.Chains = append(c.Chains, chain)
	}
	return c, nil
}

// tolerance is how far the clock of an issuer may be ahead.
const tolerance = 24 * time.Hour

func checkDates(o *Order, leaf *x509.Certificate, now time.Time) error {
	latest := now
	if o.NotBefore.After(now) {
		latest = o.NotBefore
	}
	switch {
	case !leaf.NotAfter.After(now):
		return errors.New("it has expired")
	case leaf.NotBefore.After(latest.Add(tolerance)):
		return errors.New("it is not valid yet")
	case !o.NotAfter.IsZero() && leaf.NotAfter.After(o.NotAfter):
		return errors.New("it is valid for longer than the order asks for")
	}
	return nil
}

// describeLeaf returns what a leaf tells about itself, apart from its names.
func describeLeaf(leaf *x509.Certificate) Certificate {
	sum := sha256.Sum256(leaf.Raw)
	c := Certificate{Fingerprint: hex.EncodeToString(sum[:]), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}
	c.ARIID, _ = acme.CertID(leaf) // empty if it has none
	return c
}

var pemBegin = []byte("-----BEGIN ")

func (s *Server) seal(plain []byte) ([]byte, error) {
	if s.cfg.Sealer == nil {
		return plain, nil
	}
	sealed, err := s.cfg.Sealer.Seal(plain)
	if err != nil {
		return nil, fmt.Errorf("seal a certificate: %w", err)
	}
	return sealed, nil
}

// unseal also takes what was stored before the Server had a Sealer.
func (s *Server) unseal(sealed []byte) ([]byte, error) {
	if s.cfg.Sealer == nil || bytes.HasPrefix(sealed, pemBegin) {
		return sealed, nil
	}
	plain, err := s.cfg.Sealer.Open(sealed)
	if err != nil {
		return nil, fmt.Errorf("open a sealed certificate: %w", err)
	}
	return plain, nil
}

// certificate returns a chain of a certificate (RFC 8555, section 7.4.2), with links to
// the others.
func (s *Server) certificate(ctx context.Context, r *request) (*answer, error) {
	if err := mustBeGet(r); err != nil {
		return nil, err
	}
	c, err := s.cfg.Storage.CertificateByID(ctx, r.PathValue("id"))
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, notFound("certificate")
	case err != nil:
		return nil, fmt.Errorf("read a certificate: %w", err)
	case c.AccountID != r.account.ID:
		return nil, problem(acme.Unauthorized, 0, "the certificate belongs to another account")
	}
	n, err := chainIndex(r.PathValue("alternative"), len(c.Chains))
	if err != nil {
		return nil, err
	}
	if err := s.mayCollect(ctx, r, &c); err != nil {
		return nil, err
	}
	chain, err := s.unseal(c.Chains[n])
	if err != nil {
		return nil, err
	}
	a := &answer{body: chain, kind: "application/pem-certificate-chain"}
	for other := range c.Chains {
		if other != n {
			a.links = append(a.links, link(s.chainURL(&c, other), "alternate"))
		}
	}
	if !c.Collected {
		if err := s.cfg.Storage.SetCollected(ctx, c.ID); err != nil {
			s.cfg.Logger.Warn("cannot record that a certificate was collected", "certificate", c.ID, "error", err)
		}
	}
	return a, nil
}

// mayCollect asks a Deliverer whether a client may have a certificate that none has yet.
func (s *Server) mayCollect(ctx context.Context, r *request, c *Certificate) error {
	policy, ok := s.cfg.Policy.(Deliverer)
	if !ok || c.Collected {
		return nil
	}
	o, err := s.cfg.Storage.Order(ctx, c.OrderID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("read the order of a certificate: %w", err)
	}
	return policy.Deliver(ctx, OrderRequest{
		Account: r.account, Addr: r.addr, Identifiers: identifiersOf(c.Identifiers), Profile: o.Profile,
	})
}

// chainIndex returns the index of a chain by the last part of its URL. The first one
// has none.
func chainIndex(part string, chains int) (int, error) {
	if part == "" && chains > 0 {
		return 0, nil
	}
	n, err := strconv.Atoi(part)
	if err != nil || n < 1 || n >= chains || strconv.Itoa(n) != part {
		return 0, notFound("certificate chain")
	}
	return n, nil
}

func (s *Server) chainURL(c *Certificate, n int) string {
	path := "/certificate/" + c.ID
	if n > 0 {
		path += "/" + strconv.Itoa(n)
	}
	return s.url(path)
}
