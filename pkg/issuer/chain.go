package issuer

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// maxAlternates is the number of alternate chains that are considered.
const maxAlternates = 8

// The limits of the alternate chains that are passed on: their number, their size, and the
// time for all requests.
const (
	passedAlternates = 4
	alternateSize    = 64 << 10 // bytes of PEM
	alternatesTime   = 10 * time.Second
)

// download returns the preferred chain, or the CA's default one if the CA does not
// offer it (RFC 8555, section 7.4.2), and its URL. It fetches alternates only if the
// default chain is not the preferred one.
func (f *flow) download(certURL string) (_ *cert.Bundle, from string, err error) {
	first, err := f.chain(certURL)
	if err != nil || f.ca.cfg.PreferredChain == "" || f.isPreferred(first) {
		return first, certURL, err
	}
	for _, alternate := range f.s.alternates(certURL) {
		bundle, err := f.chain(alternate)
		if err != nil {
			f.ca.cfg.Logger.Warn("an alternate chain cannot be used", "error_kind", kindText(err))
			continue
		}
		if f.isPreferred(bundle) {
			return bundle, alternate, nil
		}
	}
	f.ca.cfg.Logger.Warn("the CA does not offer the preferred chain; its default is used", "preferred_chain", f.ca.cfg.PreferredChain)
	return first, certURL, nil
}

// addAlternates adds the CA's other chains to a bundle that was read from a URL. The order
// does not depend on them, so each is requested once and all together have a time limit.
func (f *flow) addAlternates(ctx context.Context, acc account, b *cert.Bundle, certURL, from string) {
	urls := slices.DeleteFunc(append([]string{certURL}, f.s.alternates(certURL)...), func(url string) bool { return url == from })
	if len(urls) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, alternatesTime)
	defer cancel()
	limited := &flow{ca: f.ca, names: f.names, key: f.key, public: f.public, s: f.ca.wire.session(ctx)}
	var err error
	if limited.core, err = f.ca.newCore(limited.s, acc); err != nil {
		return
	}
	has := [][]byte{b.FullchainPEM()}
	for _, url := range urls {
		if len(b.Alternates) == passedAlternates || ctx.Err() != nil {
			return
		}
		other, err := limited.chainIf(url, func(err error) bool { return isProblem(err, acme.BadNonce) })
		if err != nil || !other.Leaf.Equal(b.Leaf) {
			f.ca.cfg.Logger.Warn("an alternate chain cannot be used", "error_kind", kindText(err))
			continue
		}
		text := other.FullchainPEM()
		known := slices.ContainsFunc(has, func(one []byte) bool { return bytes.Equal(one, text) })
		if !known && len(text) <= alternateSize {
			has = append(has, text)
			b.Alternates = append(b.Alternates, other.Chain)
		}
	}
}

// chain downloads one chain and checks it against the order. If the answer has no
// certificate, it reads again, because the certificate exists.
func (f *flow) chain(certURL string) (*cert.Bundle, error) { return f.chainIf(certURL, isTransient) }

// chainIf is chain, and repeats the request after the errors for which again is true.
func (f *flow) chainIf(certURL string, again func(error) bool) (*cert.Bundle, error) {
	const op = "download the certificate"
	chain, err := repeat(f.s, again, func() ([]byte, error) {
		chain, _, err := f.core.Certificates.Get(certURL, true)
		if err != nil {
			return nil, err
		}
		if _, err = cert.ParseBundle(chain); errors.Is(err, cert.ErrNoCertificate) {
			return nil, err
		}
		return chain, nil
	})
	if err != nil {
		return nil, temporaryIfMissing(f.failed(op, err))
	}
	bundle, err := cert.NewBundle(chain, f.key, f.public, f.names)
	if err != nil {
		detail := "the CA's certificate does not match the order: " + err.Error()
		return nil, &acme.Error{Kind: acme.Permanent, Op: "check the certificate", Detail: detail, Err: err, Public: true}
	}
	return bundle, nil
}

// isPreferred reports whether the topmost certificate was issued by the CA that
// the administrator prefers.
func (f *flow) isPreferred(b *cert.Bundle) bool {
	top := b.Leaf
	if n := len(b.Chain); n > 0 {
		top = b.Chain[n-1]
	}
	return top.Issuer.CommonName == f.ca.cfg.PreferredChain
}

// kindText returns an error's kind for a log. The error's text may contain names,
// so it is not logged.
func kindText(err error) string {
	if isPermanent(err) {
		return string(acme.Permanent)
	}
	return string(acme.Temporary)
}

// alternateLinks returns the URLs of other chains for the same certificate.
func alternateLinks(from string, h http.Header) []string { return links(from, h, "alternate") }

// links returns the URLs in Link headers (RFC 8288) that have the relation. They
// are resolved relative to from.
func links(from string, h http.Header, relation string) []string {
	base, err := url.Parse(from)
	if err != nil {
		return nil
	}
	var found []string
	for _, value := range h.Values("Link") {
		for _, link := range strings.Split(value, ",") {
			target, params, _ := strings.Cut(strings.TrimSpace(link), ">")
			params = strings.ReplaceAll(strings.ReplaceAll(params, " ", ""), `"`, "")
			if !strings.HasPrefix(target, "<") || !strings.Contains(params+";", ";rel="+relation+";") || len(found) == maxAlternates {
				continue
			}
			if u, err := base.Parse(target[1:]); err == nil {
				found = append(found, u.String())
			}
		}
	}
	return found
}
