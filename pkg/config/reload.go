package config

import (
	"reflect"
	"slices"
	"strings"
)

// Setting describes a setting of serve, by the name of its flag and key.
type Setting struct {
	Key     string
	Restart bool // only a new process applies a change
	field   func(*Serve) any
}

// Settings returns all settings of serve in the order of their help, each with
// whether a change needs a restart. Documentation, messages and the reload follow
// this table.
func Settings() []Setting {
	const restart = true
	return []Setting{
		{"http-addr", restart, func(s *Serve) any { return &s.HTTPAddr }},
		{"https-addr", restart, func(s *Serve) any { return &s.HTTPSAddr }},
		{"data-dir", restart, func(s *Serve) any { return &s.DataDir }},
		{"store", restart, func(s *Serve) any { return &s.Store }},
		{"sign-config", restart, func(s *Serve) any { return &s.SignConfig }},
		{"log-format", restart, func(s *Serve) any { return &s.LogFormat }},

		{"http-fallback", false, func(s *Serve) any { return &s.HTTPFallback }},
		{"hostname", false, func(s *Serve) any { return &s.Hostname }},
		{"public-url", false, func(s *Serve) any { return &s.PublicURL }},
		{"acme-directory-url", false, func(s *Serve) any { return &s.ACMEDirectoryURL }},
		{"ca-certificates", false, func(s *Serve) any { return &s.CACertificates }},
		{"email", false, func(s *Serve) any { return &s.Email }},
		{"accept-tos", false, func(s *Serve) any { return &s.AcceptTOS }},
		{"eab-kid", false, func(s *Serve) any { return &s.EABKid }},
		{"eab-hmac-key-file", false, func(s *Serve) any { return &s.EABHMACKeyFile }},
		{"challenge", false, func(s *Serve) any { return &s.Challenge }},
		{"http-01-webroot", false, func(s *Serve) any { return &s.HTTP01Webroot }},
		{"http-01-hook", false, func(s *Serve) any { return &s.HTTP01Hook }},
		{"dns-provider", false, func(s *Serve) any { return &s.DNSProvider }},
		{"dns-resolver", false, func(s *Serve) any { return &s.DNSResolvers }},
		{"check-resolver", false, func(s *Serve) any { return &s.CheckResolvers }},
		{"check-http-port", false, func(s *Serve) any { return &s.CheckHTTPPort }},
		{"dns-propagation", false, func(s *Serve) any { return &s.DNSPropagation }},
		{"preferred-chain", false, func(s *Serve) any { return &s.PreferredChain }},
		{"domain", false, func(s *Serve) any { return &s.Domains }},
		{"key-type", false, func(s *Serve) any { return &s.KeyType }},
		{"profile", false, func(s *Serve) any { return &s.Profile }},
		{"certificate-obtained-hook", false, func(s *Serve) any { return &s.CertificateObtainedHook }},
		{"cert-dir", false, func(s *Serve) any { return &s.CertDir }},
		{"format", false, func(s *Serve) any { return &s.Files.Formats }},
		{"pkcs12-password-file", false, func(s *Serve) any { return &s.Files.PKCS12PasswordFile }},
		{"owner", false, func(s *Serve) any { return &s.Files.Owner }},
		{"key-mode", false, func(s *Serve) any { return &s.Files.KeyMode }},
		{"max-client-certificates", false, func(s *Serve) any { return &s.MaxClientCertificates }},
		{"default-daily-quota", false, func(s *Serve) any { return &s.DefaultDailyQuota }},
		{"log-level", false, func(s *Serve) any { return &s.LogLevel }},
	}
}

// NeedRestart returns the keys of the settings that only a new process applies.
func NeedRestart() (keys []string) {
	for _, s := range Settings() {
		if s.Restart {
			keys = append(keys, s.Key)
		}
	}
	return keys
}

// RestartError reports changed settings that only a new process applies.
type RestartError struct{ Keys []string }

func (e *RestartError) Error() string {
	lines := make([]string, len(e.Keys))
	for i, key := range e.Keys {
		lines[i] = key + ": a change needs a restart; restart the proxy, or set the earlier value again"
	}
	return strings.Join(lines, "\n")
}

// Changes returns the keys of the settings that differ. If one of them needs a
// restart, the error is a *RestartError.
func Changes(before, after Serve) (changed []string, err error) {
	changed = []string{}
	var refused []string
	for _, s := range Settings() {
		if s.equal(&before, &after) {
			continue
		}
		changed = append(changed, s.Key)
		if s.Restart {
			refused = append(refused, s.Key)
		}
	}
	if refused != nil {
		return nil, &RestartError{refused}
	}
	return changed, nil
}

// KeepProcess returns after with those settings of before that only a new process
// applies.
func KeepProcess(before, after Serve) Serve {
	for _, s := range Settings() {
		if s.Restart {
			reflect.ValueOf(s.field(&after)).Elem().Set(reflect.ValueOf(s.field(&before)).Elem())
		}
	}
	return after
}

func (s Setting) equal(a, b *Serve) bool {
	x, y := s.field(a), s.field(b)
	if list, ok := x.(*[]string); ok { // an empty list equals a missing one
		return slices.Equal(*list, *y.(*[]string))
	}
	return reflect.DeepEqual(x, y)
}
