package issuer

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	legoacme "github.com/go-acme/lego/v4/acme"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// This file checks the CA's answers before they are used. Names reach hooks and DNS
// providers, URLs are requested with the account's signature, and tokens become
// file names.

const maxURL = 2048

// resolve checks and returns a URL in the answer from base. It may be relative to
// base.
func (w *wire) resolve(base, ref string) (string, error) {
	from, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	u, err := from.Parse(ref)
	if err != nil || ref == "" || len(ref) > maxURL {
		return "", errors.New("the CA sent a URL that cannot be read")
	}
	switch {
	case u.Scheme != "https" || u.Host == "" || u.Opaque != "":
		return "", fmt.Errorf("the CA sent the URL %.100q, which is not https://", ref)
	case u.User != nil:
		return "", errors.New("the CA sent a URL with a user in it")
	case !w.mayUseHost(u.Hostname()):
		return "", fmt.Errorf("the CA sent a URL on %.100q, which is not a public host, unlike the CA's directory", u.Hostname())
	}
	return u.String(), nil
}

// mayUseHost reports whether the CA may have a resource on that host. RFC 8555
// allows any host, but a public CA must not send requests into our network. A CA
// with configured roots is a private one.
func (w *wire) mayUseHost(host string) bool {
	if w.private {
		return true
	}
	directory, err := url.Parse(w.directoryURL)
	if err != nil {
		return false
	}
	return strings.EqualFold(host, directory.Hostname()) || isInternal(directory.Hostname()) || !isInternal(host)
}

var sharedSpace = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

// isInternal reports whether a host exists in our own network only.
func isInternal(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if addr, err := netip.ParseAddr(host); err == nil {
		addr = addr.Unmap()
		return !addr.IsGlobalUnicast() || addr.IsPrivate() || sharedSpace.Contains(addr)
	}
	if !strings.Contains(host, ".") || strings.Trim(host, "0123456789.") == "" {
		return true
	}
	return slices.ContainsFunc([]string{".localhost", ".local", ".internal", ".home.arpa"}, func(suffix string) bool {
		return strings.HasSuffix(host, suffix)
	})
}

// checkOrder checks an order in the answer from base and makes its URLs absolute.
// Fields that the answer omits are copied from before.
func (f *flow) checkOrder(order, before legoacme.ExtendedOrder, base string) (legoacme.ExtendedOrder, error) {
	order.Location = before.Location
	switch order.Status {
	case legoacme.StatusPending, legoacme.StatusReady, legoacme.StatusProcessing, legoacme.StatusValid, legoacme.StatusInvalid:
	default:
		return order, fmt.Errorf("the CA sent an order with the status %.40q", order.Status)
	}
	if len(order.Identifiers) > 0 && !f.isOurs(order) {
		return order, errors.New("the CA sent an order for other names")
	}
	if most := 2*len(f.names) + 8; len(order.Authorizations) > most {
		return order, fmt.Errorf("the CA sent an order with %d authorizations for %d names", len(order.Authorizations), len(f.names))
	}
	var err error
	for i, u := range order.Authorizations {
		if order.Authorizations[i], err = f.s.resolve(base, u); err != nil {
			return order, err
		}
	}
	for _, u := range []*string{&order.Finalize, &order.Certificate} {
		if *u == "" {
			continue
		}
		if *u, err = f.s.resolve(base, *u); err != nil {
			return order, err
		}
	}
	if len(order.Authorizations) == 0 {
		order.Authorizations = before.Authorizations
	}
	if order.Finalize == "" {
		order.Finalize = before.Finalize
	}
	return order, nil
}

// isOurs reports whether an order is for our names.
func (f *flow) isOurs(order legoacme.ExtendedOrder) bool {
	var ids []string
	for _, id := range order.Identifiers {
		if !hasMatchingType(id) {
			return false
		}
		ids = append(ids, id.Value)
	}
	names, err := cert.ParseNames(ids...)
	return err == nil && names.Equal(f.names)
}

// hasMatchingType reports whether an identifier's type matches its value.
func hasMatchingType(id legoacme.Identifier) bool {
	if _, err := netip.ParseAddr(id.Value); err == nil {
		return id.Type == "ip"
	}
	return id.Type == "dns"
}

// checkAuthorization checks an authorization in the answer from base. The returned
// identifier is one of ours, in our spelling. An authorization that is valid already
// may be for a parent domain (RFC 9444), so its identifier is not checked.
func (f *flow) checkAuthorization(authz legoacme.Authorization, base string) (legoacme.Authorization, error) {
	switch authz.Status {
	case legoacme.StatusPending, legoacme.StatusValid, legoacme.StatusInvalid,
		legoacme.StatusDeactivated, legoacme.StatusExpired, legoacme.StatusRevoked:
	default:
		return authz, fmt.Errorf("the CA sent an authorization with the status %.40q", authz.Status)
	}
	if authz.Status == legoacme.StatusValid {
		return authz, nil
	}
	name, err := cert.ParseName(authz.Identifier.Value)
	if err == nil && cert.IsWildcard(name) {
		name, authz.Wildcard = strings.TrimPrefix(name, "*."), true
	}
	ordered := slices.Contains(f.names, name)
	wildcard := slices.Contains(f.names, "*."+name)
	if err != nil || !hasMatchingType(authz.Identifier) || authz.Wildcard && !wildcard || !ordered && !wildcard {
		return authz, permanent("authorize", "the CA asks for an authorization of %.80q, which was not ordered", authz.Identifier.Value)
	}
	authz.Identifier.Value = name
	authz.Wildcard = authz.Wildcard || !ordered
	for i := range authz.Challenges {
		c := &authz.Challenges[i]
		if c.URL, err = f.s.resolve(base, c.URL); err != nil {
			c.URL = "" // findChallenge refuses it if it is needed
		}
	}
	return authz, nil
}

// emptyDate matches an empty date, which some CAs send instead of omitting it.
var emptyDate = regexp.MustCompile(`"(expires|validated|notBefore|notAfter)"(\s*:\s*)"\s*"`)

// nullEmptyDates replaces empty dates with null. They are not used, but lego would
// refuse the document.
func nullEmptyDates(body []byte) []byte { return emptyDate.ReplaceAll(body, []byte(`"$1"${2}null`)) }

// directoryURLs lists the directory's entries that we use, the required ones first.
var directoryURLs = []string{"newNonce", "newAccount", "newOrder", "revokeCert", "keyChange", "renewalInfo", "newAuthz"}

// checkDirectory returns an error unless body is an ACME directory, and makes the
// URLs absolute.
func (w *wire) checkDirectory(base string, body []byte) ([]byte, error) {
	var d map[string]any
	if err := json.Unmarshal(body, &d); err != nil {
		return nil, errNoDirectory
	}
	for i, name := range directoryURLs {
		ref, _ := d[name].(string)
		switch {
		case ref == "" && i < 3:
			return nil, errNoDirectory
		case ref == "":
			continue
		}
		absolute, err := w.resolve(base, ref)
		switch {
		case err == nil:
			d[name] = absolute
		case i < 3:
			return nil, fmt.Errorf("the CA's directory: %s: %w", name, err)
		default:
			delete(d, name) // not needed for issuance
		}
	}
	return json.Marshal(d)
}

var errNoDirectory = errors.New("not an ACME directory; check --acme-directory-url")
