package acme

// The challenge types that acmeproxy knows.
const (
	HTTP01    = "http-01"     // RFC 8555, section 8.3
	DNS01     = "dns-01"      // RFC 8555, section 8.4
	TLSALPN01 = "tls-alpn-01" // RFC 8737
)
