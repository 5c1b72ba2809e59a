package issuer

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/url"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// maxAlternates bounds how many chains are looked at.
const maxAlternates = 8

// download gets the chain: the CA's default one, or if another is preferred and
// the CA has it, that (RFC 8555, section 7.4.2). Alternates are fetched only
// when the default is not the one.
func (f *flow) download(certURL string) (*cert.Bundle, error) {
	first, pemChain, err := f.chain(certURL)
	if err != nil || f.is.cfg.PreferredChain == "" || f.preferred(pemChain) {
		return first, err
	}
	for _, alternate := range f.s.alternates(certURL) {
		bundle, pemChain, err := f.chain(alternate)
		if err != nil {
			f.is.cfg.Logger.Warn("an alternate chain cannot be used", "error_kind", kindText(err))
			continue
		}
		if f.preferred(pemChain) {
			return bundle, nil
		}
	}
	f.is.cfg.Logger.Warn("the CA does not offer the preferred chain; its default is used", "preferred_chain", f.is.cfg.PreferredChain)
	return first, nil
}

// chain downloads one chain and holds it against what was ordered.
func (f *flow) chain(certURL string) (*cert.Bundle, []byte, error) {
	chain, _, err := f.core.Certificates.Get(certURL, true)
	if err != nil {
		return nil, nil, f.failed("download the certificate", err)
	}
	bundle, err := cert.NewBundle(chain, f.key, f.public, f.names)
	if err != nil {
		return nil, nil, permanent("check the certificate", "the CA sent something else than was ordered: %v", err)
	}
	return bundle, chain, nil
}

// preferred tells whether the topmost certificate was issued by whom the
// administrator prefers.
func (f *flow) preferred(pemChain []byte) bool {
	var top *x509.Certificate
	for block, rest := pem.Decode(pemChain); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			top = c
		}
	}
	return top != nil && top.Issuer.CommonName == f.is.cfg.PreferredChain
}

// kindText is what may be logged of an error: its text may hold names.
func kindText(err error) string {
	if isPermanent(err) {
		return string(Permanent)
	}
	return string(Temporary)
}

// alternateLinks reads Link headers (RFC 8288) with the relation "alternate",
// relative to the URL they came from.
func alternateLinks(from string, h http.Header) []string {
	base, err := url.Parse(from)
	if err != nil {
		return nil
	}
	var links []string
	for _, value := range h.Values("Link") {
		for _, link := range strings.Split(value, ",") {
			target, params, _ := strings.Cut(strings.TrimSpace(link), ">")
			params = strings.ReplaceAll(strings.ReplaceAll(params, " ", ""), `"`, "")
			if !strings.HasPrefix(target, "<") || !strings.Contains(params+";", ";rel=alternate;") || len(links) == maxAlternates {
				continue
			}
			if u, err := base.Parse(target[1:]); err == nil {
				links = append(links, u.String())
			}
		}
	}
	return links
}
