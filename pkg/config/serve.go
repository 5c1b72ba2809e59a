package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// LetsEncrypt is the directory of the default CA.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// Serve holds the configuration of the DMZ process. Each field has the name of its
// flag.
type Serve struct {
	Origin // for messages

	HTTPAddr  string // host:port of the HTTP-01 listener, or None
	HTTPSAddr string // host:port of the TLS API
	DataDir   string // folder for the database, keys and certificates, with mode 0700; without a default here
	Store     string // URL of a PostgreSQL database, perhaps with a password; if empty, SQLite in DataDir
	Hostname  string // public DNS name of this host; if empty, the API's certificate stays self-signed
	PublicURL string // https://HOST[:PORT] at which clients reach the API; if empty, Hostname with the port of HTTPSAddr

	HTTPFallback string // answer of port 80 to other requests: FallbackNotFound, FallbackRedirect or a backend's URL

	ACMEDirectoryURL string
	CACertificates   []string // PEM files of roots to trust for the CA's API, in addition to the system's
	Email            string   // contact of the CA account; optional
	AcceptTOS        bool     // the administrator has read and accepts the CA's terms of service
	EABKid           string   // external account binding (RFC 8555 section 7.3.4); set both or neither
	EABHMACKeyFile   string

	Challenge      string   // http-01, tls-alpn-01 or dns-01; wildcards always use dns-01
	HTTP01Webroot  string   // folder of a web server that serves http-01 answers; if empty, HTTPAddr does
	HTTP01Hook     string   // shell command that publishes http-01 answers; if empty, HTTPAddr serves them
	DNSProvider    string   // a name of dnsprovider.All; if empty, dns-01 is not possible
	DNSResolvers   []string // DNS servers, with or without a port; see Resolvers
	DNSPropagation string   // servers that must have a TXT record first: nameservers, resolvers or none
	CheckResolvers []string // DNS servers for checks of names, with or without a port; if empty, the system's
	CheckHTTPPort  int      // that checks of names connect to; if 0, 80; set by tests only
	PreferredChain string   // common name of the topmost issuer; if empty, the CA's default chain

	Domains                 []string // certificates for this host itself; commas join names into one; see CertificateSet
	KeyType                 string   // of this host's certificates; see cert.KeyTypes
	Profile                 string   // of this host's certificates, one of the CA's; if empty, its default
	CertificateObtainedHook string   // shell command; may be empty
	CertDir                 string   // for a folder of each certificate; if empty, certs in DataDir, which only this user can enter
	Files                   certfile.Layout

	MaxClientCertificates int    // maximum number of managed certificates of a client; 0 for no limit
	DefaultDailyQuota     string // of clients whose grants set none: a number, 0 for no limit, or QuotaAuto

	SignConfig string // configuration of ACMEMS whose CSRs are signed; if empty, there is no such door

	LogLevel  string // debug, info, warn or error
	LogFormat string // text or json
}

// CertificatesDir returns the folder with the folders of this host's certificates.
func (s *Serve) CertificatesDir() string {
	if s.CertDir != "" {
		return s.CertDir
	}
	return filepath.Join(s.DataDir, "certs")
}

// DefaultServe returns the default configuration. With it the proxy starts, but cannot
// order a certificate.
func DefaultServe() Serve {
	return Serve{
		HTTPAddr:         ":80",
		HTTPSAddr:        ":443",
		HTTPFallback:     FallbackNotFound,
		ACMEDirectoryURL: LetsEncrypt,
		Challenge:        challenges[0],
		DNSPropagation:   propagations[0],
		KeyType:          string(cert.EC256),

		MaxClientCertificates: 1000,
		DefaultDailyQuota:     QuotaAuto,

		LogLevel:  "info",
		LogFormat: "text",
	}
}

// Doubts returns the settings that are valid, but probably not meant that way, each with
// its key and the fix.
func (s *Serve) Doubts() []string {
	var doubts []string
	backend, _ := s.Backend() // Validate reports the error
	_, port, _ := splitAddr(s.HTTPAddr)
	if s.HTTP01Webroot != "" && port == 80 && backend == nil {
		doubts = append(doubts, fmt.Sprintf("http-01-webroot: the CA finds the listener at http-addr %s, which does not serve these files; set http-addr to none", s.HTTPAddr))
	}
	if u, err := url.Parse(s.PublicURL); err == nil && s.PublicURL != "" && !s.ObtainsFor(u.Hostname()) {
		doubts = append(doubts, fmt.Sprintf("public-url: no certificate is obtained for %s, so ACME clients cannot trust the directory; set hostname to that name", u.Hostname()))
	}
	inDataDir := s.CertDir == ""
	if rel, err := filepath.Rel(s.DataDir, s.CertDir); err == nil && filepath.IsLocal(rel) {
		inDataDir = true
	}
	if s.Files.Owner != "" && len(s.Domains) > 0 && inDataDir {
		doubts = append(doubts, "owner: no other user can enter the data directory, which holds the files; set cert-dir to a folder elsewhere")
	}
	return doubts
}

// ObtainsFor reports whether the certificate for the hostname is for this name, too.
func (s *Serve) ObtainsFor(name string) bool {
	hostname := strings.ToLower(strings.TrimSuffix(s.Hostname, "."))
	sets, _ := s.CertificateSets() // none if they are faulty, which Validate reports
	return hostname == name || slices.ContainsFunc(sets, func(set CertificateSet) bool {
		return slices.Contains(set.Names, hostname) && set.Names.Covers(name)
	})
}

// Needs returns the settings that are missing before a certificate can be ordered,
// each with the flag to set.
func (s *Serve) Needs() []string {
	var needs []string
	if !s.AcceptTOS {
		needs = append(needs, "the CA's terms of service: read them, then set --accept-tos")
	}
	if s.Hostname == "" {
		needs = append(needs, "this host's public name, for the API's certificate and enrolment tokens: set --hostname")
	}
	return needs
}
