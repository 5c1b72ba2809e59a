package config

import (
	"path/filepath"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// LetsEncrypt is the directory of the default CA.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// Serve is the configuration of the DMZ process. Each field has the name of its
// flag.
type Serve struct {
	HTTPAddr  string // host:port of the HTTP-01 listener; None: there is none
	HTTPSAddr string // host:port of the TLS API
	DataDir   string // for the database, keys and certificates, with mode 0700; it has no default here
	Store     string // URL of a PostgreSQL database, perhaps with a password; empty: SQLite in DataDir
	Hostname  string // DNS name of this host as clients know it; empty: the API stays self-signed

	HTTPFallback string // what port 80 does with all but challenges: FallbackNotFound, FallbackRedirect or a backend's URL

	ACMEDirectoryURL string
	Email            string // contact of the CA account; optional
	AcceptTOS        bool   // the operator has read and accepts the CA's terms of service
	EABKid           string // external account binding (RFC 8555 section 7.3.4); both or none
	EABHMACKeyFile   string

	Challenge      string   // http-01, tls-alpn-01 or dns-01; wildcards take dns-01 whatever it is
	HTTP01Webroot  string   // folder of a web server that serves http-01 answers; empty: the HTTP-01 listener does
	HTTP01Hook     string   // shell command that publishes http-01 answers; empty: the HTTP-01 listener does
	DNSProvider    string   // a name of dnsprovider.All; empty: no dns-01
	DNSResolvers   []string // DNS servers, with or without a port; see Resolvers
	DNSPropagation string   // whom to ask whether a TXT record is there: nameservers, resolvers or none
	PreferredChain string   // common name of the topmost issuer; empty: the CA's default chain

	Domains                 []string // certificates for this host itself; commas join names into one
	KeyType                 string   // of this host's certificates; see cert.KeyTypes
	Profile                 string   // of this host's certificates, one of the CA's; empty: its default
	CertificateObtainedHook string   // shell command; empty: none
	CertDir                 string   // for a folder of each certificate; empty: certs in DataDir, which only this user can enter
	Files                   certfile.Layout

	MaxClientCertificates int    // managed certificates that one client may have; 0: any number
	DefaultDailyQuota     string // of clients whose grants set none: a number, 0 for any number, or QuotaAuto

	LogLevel  string // debug, info, warn or error
	LogFormat string // text or json
}

// CertificatesDir is where the folders of this host's own certificates are.
func (s *Serve) CertificatesDir() string {
	if s.CertDir != "" {
		return s.CertDir
	}
	return filepath.Join(s.DataDir, "certs")
}

// DefaultServe is the configuration that works out of the box and orders
// nothing until it is asked to.
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

// Needs says what is missing before anything can be ordered, each with the flag
// to set; empty when nothing is.
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
