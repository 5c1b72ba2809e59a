package issuer

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// maxAlternates bounds how many chains are looked at.
const maxAlternates = 8

// download gets the chain: the CA's default one, or if another is preferred and
// the CA has it, that (RFC 8555, section 7.4.2). Alternates are fetched only
// when the default is not the one.
func (f *flow) download(certURL string) (*cert.Bundle, error) {
	first, err := f.chain(certURL)
	if err != nil || f.ca.cfg.PreferredChain == "" || f.preferred(first) {
		return first, err
	}
	for _, alternate := range f.s.alternates(certURL) {
		bundle, err := f.chain(alternate)
		if err != nil {
			f.ca.cfg.Logger.Warn("an alternate chain cannot be used", "error_kind", kindText(err))
			continue
		}
		if f.preferred(bundle) {
			return bundle, nil
		}
	}
	f.ca.cfg.Logger.Warn("the CA does not offer the preferred chain; its default is used", "preferred_chain", f.ca.cfg.PreferredChain)
	return first, nil
}

// chain downloads one chain and checks it against the order. What is no chain
// at all is read again: the certificate exists.
func (f *flow) chain(certURL string) (*cert.Bundle, error) {
	const op = "download the certificate"
	chain, err := read(f.s, func() ([]byte, error) {
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
		return nil, missing(f.failed(op, err))
	}
	bundle, err := cert.NewBundle(chain, f.key, f.public, f.names)
	if err != nil {
		return nil, permanent("check the certificate", "the CA sent something else than was ordered: %v", err)
	}
	return bundle, nil
}

// preferred reports whether the topmost certificate was issued by the CA that
// the administrator prefers.
func (f *flow) preferred(b *cert.Bundle) bool {
	top := b.Leaf
	if n := len(b.Chain); n > 0 {
		top = b.Chain[n-1]
	}
	return top.Issuer.CommonName == f.ca.cfg.PreferredChain
}

// kindText is what may be logged of an error: its text may hold names.
func kindText(err error) string {
	if isPermanent(err) {
		return string(acme.Permanent)
	}
	return string(acme.Temporary)
}

// alternateLinks returns where a CA has other chains for the same certificate.
func alternateLinks(from string, h http.Header) []string { return links(from, h, "alternate") }

// links reads Link headers (RFC 8288) with one relation, relative to the URL
// that they came from.
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
