package e2e

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

// client is a stock ACME client with one account. Each method is one or more runs of a
// program, or calls of a package. An error contains all that the client printed. A method
// that the client does not have returns an error that is a *lacking.
type client interface {
	register(ctx context.Context) error
	// issue returns one certificate with all names, or one for each name.
	issue(ctx context.Context, names ...string) ([]*certificate, error)
	// renew replaces the certificates that issue returned for the same names.
	renew(ctx context.Context, names ...string) ([]*certificate, error)
	revoke(ctx context.Context, c *certificate) error
	rollover(ctx context.Context) error
}

// lacking is the error of a method that a client does not have.
type lacking struct{ why string }

func (l *lacking) Error() string { return l.why }

// lacks reports whether a client does not have a method, and logs why.
func lacks(t *testing.T, err error) bool {
	t.Helper()
	var l *lacking
	if !errors.As(err, &l) {
		return false
	}
	t.Log(l.why)
	return true
}

// kind describes a client.
type kind struct {
	name     string
	programs []string // that must be installed
	start    func(*testing.T, *site) client
	// keepsKey: a renewed certificate has the key of the previous one.
	keepsKey bool
	// replaces: a renewal names the certificate that it replaces (RFC 9773, section 5).
	replaces bool
	// eachName: the client has a certificate for each name.
	eachName bool
	// longest is the lifetime of certificates above which the client cannot be made to
	// renew one at once; any if 0.
	longest time.Duration
}

var kinds = []kind{
	{name: "certbot", programs: []string{"certbot"}, start: startCertbot},
	{name: "dehydrated", programs: []string{"dehydrated", "openssl", "curl"}, start: startDehydrated, keepsKey: true},
	{name: "lego-program", programs: []string{"lego"}, start: startLegoProgram, keepsKey: true},
	{name: "uacme", programs: []string{"uacme", "unshare"}, start: startUacme, keepsKey: true},
	{name: "caddy", programs: []string{"caddy"}, start: startCaddy, keepsKey: true, eachName: true},
	{name: "x-crypto", start: startCrypto},
	{name: "autocert", start: startAutocert, keepsKey: true, eachName: true, longest: 30 * 24 * time.Hour},
	{name: "cert-manager", start: startCertManager},
	{name: "acmez", start: startAcmez, replaces: true},
	{name: "certmagic", start: startCertmagic, replaces: true, eachName: true},
	{name: "lego", start: startLego, replaces: true},
}

// names returns the names of one order, below the client's own domain.
func (s *site) names(first string, more ...string) []string {
	base := first + "." + s.domain
	all := []string{base}
	for _, label := range more {
		all = append(all, label+"."+base)
	}
	return all
}

// hasAll reports whether the certificates have exactly these names.
func hasAll(certs []*certificate, names []string) bool {
	var all []string
	for _, c := range certs {
		all = append(all, c.leaf.DNSNames...)
	}
	slices.Sort(all)
	return slices.Equal(all, slices.Sorted(slices.Values(names)))
}
