// Package dns01 answers DNS-01 challenges (RFC 8555, section 8.4): it publishes TXT
// records through the administrator's DNS provider and waits for their propagation.
//
// A provider is one of dnsprovider.All: dynamic updates (package dnsupdate), or one of
// lego's. Environment variables configure it.
//
//	solver, err := dns01.New(dns01.Config{Provider: "rfc2136", Getenv: os.Getenv})
//
// The package never imports lego's package of all providers, which is tens of megabytes, and
// never logs a name or a value.
package dns01
