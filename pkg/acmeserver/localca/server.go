package localca

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// GetCertificate returns a function for tls.Config that serves a certificate of this CA
// for these names and IP addresses, such as those of the ACME server itself. It creates
// the key in memory, and another certificate after two thirds of the lifetime and after a
// rotation. Names can have one label, such as localhost.
func (ca *CA) GetCertificate(names ...string) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	var mu sync.Mutex
	var last *tls.Certificate
	var by *generation
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		now := ca.cfg.Now()
		if last != nil && by == ca.current() && isFresh(last.Leaf, now) {
			return last, nil
		}
		all := *ca.generations.Load()
		made, err := ca.own(all, names, now)
		if err != nil {
			return nil, err
		}
		last, by = made, all[0]
		return made, nil
	}
}

// isFresh reports whether a certificate is valid, and not due for renewal. It is not valid
// yet after the clock was ahead.
func isFresh(leaf *x509.Certificate, now time.Time) bool {
	return !now.Before(leaf.NotBefore) && now.Before(cert.RenewAt(leaf.NotBefore, leaf.NotAfter))
}

// own signs a certificate for a new key of this process.
func (ca *CA) own(all generations, names []string, now time.Time) (*tls.Certificate, error) {
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		return nil, err
	}
	notBefore, notAfter, err := ca.dates(all[0], acmeserver.Order{CreatedAt: now}, now)
	if err != nil {
		return nil, err
	}
	leaf, err := ca.cfg.signLeaf(all[0], rand.Text(), &cert.CSR{Names: names, Public: key.Public()}, notBefore, notAfter)
	if err != nil {
		return nil, err
	}
	pair := &tls.Certificate{PrivateKey: key, Leaf: leaf, Certificate: [][]byte{leaf.Raw}}
	for _, c := range all.longest(now) {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair, nil
}
