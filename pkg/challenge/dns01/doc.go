// Package dns01 answers DNS-01 challenges (RFC 8555, section 8.4): it publishes TXT
// records through the administrator's DNS provider and waits until they can be seen.
//
// A provider is one of the few that New lists: dynamic updates (package dnsupdate),
// or one of lego's. The environment sets each of them up.
//
//	solver, err := dns01.New(dns01.Config{Provider: "rfc2136", Getenv: os.Getenv})
//
// It never imports lego's package of all providers, which is tens of megabytes, and
// never writes a name or a value to a log.
package dns01
