package localca

import (
	"context"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// maxCross bounds how many cross certificates follow in a chain.
const maxCross = 2

// Issue implements acmeserver.Issuer. It needs no State: the serial number is a keyed
// hash of the order and of the certificate's content, and the signature is
// deterministic. So an order that is issued again soon after a crash, by the same
// generation, has the same certificate. Later it has another serial number.
func (ca *CA) Issue(ctx context.Context, r acmeserver.IssueRequest) (acmeserver.Issued, error) {
	if err := ctx.Err(); err != nil {
		return acmeserver.Issued{}, err
	}
	now := ca.cfg.Now()
	all := *ca.generations.Load()
	notBefore, notAfter, err := ca.dates(all[0], r.Order, now)
	if err != nil {
		return acmeserver.Issued{}, err
	}
	leaf, err := ca.cfg.signLeaf(all[0], r.Order.ID, r.CSR, notBefore, notAfter)
	if err != nil {
		return acmeserver.Issued{}, fmt.Errorf("sign the certificate of order %s: %w", r.Order.ID, err)
	}
	chains := all.chains(encode(leaf), now)
	return acmeserver.Issued{Chain: chains[0], Alternates: chains[1:]}, nil
}

// chains returns all chains of a leaf, without the roots, the longest first. A client
// that trusts one of the last roots accepts the longest.
func (all generations) chains(leaf []byte, now time.Time) (chains [][]byte) {
	chain := leaf
	for _, c := range all.longest(now) {
		chain = slices.Concat(chain, encode(c))
		chains = append([][]byte{chain}, chains...)
	}
	return chains
}

// longest returns the issuing certificate and the cross certificates that follow it.
func (all generations) longest(now time.Time) []*x509.Certificate {
	chain := []*x509.Certificate{all[0].issuing.cert}
	for i, g := range all[:min(len(all), maxCross)] {
		// The certificate must come from the next root, which may be gone.
		if g.cross == nil || !now.Before(g.cross.NotAfter) || now.Before(g.cross.NotBefore) || i+1 == len(all) || g.cross.CheckSignatureFrom(all[i+1].root.cert) != nil {
			break
		}
		chain = append(chain, g.cross)
	}
	return chain
}

// domainValidated is the policy of certificates whose names were validated (CA/Browser
// Forum, Baseline Requirements, section 7.1.6.1).
func domainValidated() []x509.OID { return []x509.OID{oid(2, 23, 140, 1, 2, 1)} }

func (c *Config) signLeaf(g *generation, order string, csr *cert.CSR, notBefore, notAfter time.Time) (*x509.Certificate, error) {
	t := &x509.Certificate{
		NotBefore: notBefore, NotAfter: notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		Policies:              domainValidated(),
	}
	if _, ok := csr.Public.(*rsa.PublicKey); ok {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment // for old clients of TLS 1.2
	}
	for _, name := range csr.Names {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	c.addURLs(t, g.issuing)
	public, err := x509.MarshalPKIXPublicKey(csr.Public)
	if err != nil {
		return nil, err
	}
	t.SerialNumber = g.serial(order, csr.Names.Key(), public, notBefore, notAfter, c.URL)
	return sign(t, g.issuing.cert, csr.Public, g.issuing.key)
}

// serial returns the serial number of a certificate. Only an equal certificate of the
// same order has the same one.
func (g *generation) serial(order, names string, public []byte, notBefore, notAfter time.Time, url string) *big.Int {
	mac := hmac.New(sha256.New, g.serials)
	dates := binary.BigEndian.AppendUint64(nil, uint64(notBefore.Unix()))
	dates = binary.BigEndian.AppendUint64(dates, uint64(notAfter.Unix()))
	for _, part := range [][]byte{[]byte(order), []byte(names), public, dates, []byte(url)} {
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		mac.Write(part)
	}
	return newSerial(mac.Sum(nil))
}

// dates returns the validity of an order's certificate: what the order requests, within
// that of the CA and its Lifetime.
func (ca *CA) dates(g *generation, o acmeserver.Order, now time.Time) (notBefore, notAfter time.Time, err error) {
	first, last := g.issuing.cert.NotBefore, g.issuing.cert.NotAfter
	if !now.Before(last) {
		return notBefore, notAfter, fmt.Errorf("the CA certificate expired at %s; rotate it", last.UTC().Format(time.RFC3339))
	}
	if now.Before(first) {
		return notBefore, notAfter, fmt.Errorf("the CA certificate is valid from %s on; set the clock, or rotate the CA if the clock was wrong when it was made", first.UTC().Format(time.RFC3339))
	}
	latest := now.Add(ca.cfg.Lifetime).Truncate(time.Second)
	notBefore = o.NotBefore.Truncate(time.Second)
	if o.NotBefore.IsZero() {
		notBefore = laterOf(ca.defaultNotBefore(o.CreatedAt, now), first)
	}
	notAfter = o.NotAfter.Truncate(time.Second)
	if o.NotAfter.IsZero() {
		// Both ends belong to the validity (RFC 5280, section 4.1.2.5).
		notAfter = earlierOf(notBefore.Add(ca.cfg.Lifetime-time.Second), earlierOf(latest, last))
	}
	var detail string
	switch {
	case notBefore.Before(first):
		detail = "notBefore: it must not be before " + first.UTC().Format(time.RFC3339)
	case notAfter.After(last):
		detail = "notAfter: it must not be after " + last.UTC().Format(time.RFC3339)
	case !notAfter.After(now):
		detail = "notAfter: it must be in the future"
	case !notBefore.Before(notAfter):
		detail = "notBefore: it must be before notAfter, which is " + notAfter.UTC().Format(time.RFC3339)
	case notAfter.After(latest):
		detail = "notAfter: certificates end at most " + ca.cfg.Lifetime.String() + " from now; request an earlier date, or none"
	default:
		return notBefore, notAfter, nil
	}
	return notBefore, notAfter, &acme.Problem{Type: acme.Malformed, Detail: detail}
}

// defaultNotBefore returns a time shortly before now, for clients whose clock is slow. It
// stays the same for a while, so that an order issued again gets the same certificate.
func (ca *CA) defaultNotBefore(created, now time.Time) time.Time {
	step := min(time.Hour, ca.cfg.Lifetime/20)
	if created.IsZero() || created.After(now) {
		created = now
	}
	waited := now.Sub(created).Truncate(step)
	return created.Add(waited - step).Truncate(time.Second)
}
