// Package dnsprovider lists the DNS providers that can publish DNS-01 records, with
// the environment variables that configure them.
//
// The list is data: pkg/challenge/dns01 opens the providers. Validation, help texts
// and the environment of hooks are derived from the list, so it must never import a
// provider's library.
//
//	for _, p := range dnsprovider.All() {
//		fmt.Println(p.Name, p.Needs)
//	}
package dnsprovider

// Provider describes one DNS provider.
type Provider struct {
	Name string // the value of dns-provider
	// Prefixes start the names of its environment variables, which may hold secrets.
	Prefixes []string
	Needs    string // the variables to set, worded for the administrator
}

// All returns the providers, sorted by name.
func All() []Provider {
	return []Provider{
		{
			Name:     "acme-dns",
			Prefixes: []string{"ACME_DNS_"},
			Needs:    "ACME_DNS_API_BASE (the acme-dns server's URL), and ACME_DNS_STORAGE_PATH (a file for its accounts) or ACME_DNS_STORAGE_BASE_URL",
		},
		{
			Name:     "exec",
			Prefixes: []string{"EXEC_"},
			Needs:    "EXEC_PATH (the program, run as: PATH present|cleanup FQDN VALUE)",
		},
		{
			Name:     "httpreq",
			Prefixes: []string{"HTTPREQ_"},
			Needs:    "HTTPREQ_ENDPOINT (a URL), and where it asks for a password HTTPREQ_USERNAME and HTTPREQ_PASSWORD or HTTPREQ_PASSWORD_FILE",
		},
		{
			Name:     "rfc2136",
			Prefixes: []string{"DNSUPDATE_", "RFC2136_"}, // the second is lego's older one
			Needs:    "DNSUPDATE_NAMESERVER (host or host:port, or several), and for signed updates DNSUPDATE_TSIG_FILE (made by tsig-keygen) or DNSUPDATE_TSIG_KEY, DNSUPDATE_TSIG_SECRET and DNSUPDATE_TSIG_ALGORITHM (hmac-sha256, if left out)",
		},
	}
}

// Names returns the names of the providers, sorted.
func Names() []string {
	var names []string
	for _, p := range All() {
		names = append(names, p.Name)
	}
	return names
}

// Find returns the provider of a name.
func Find(name string) (_ Provider, ok bool) {
	for _, p := range All() {
		if p.Name == name {
			return p, true
		}
	}
	return Provider{}, false
}
