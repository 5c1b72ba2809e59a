package clients

import "strings"

// Mode names how a certificate is obtained and delivered.
type Mode string

// The modes.
const (
	ModeClient  Mode = "client"  // acme-client: certificates of the proxy's own host
	ModeAgent   Mode = "agent"   // certificate-agent: renewed by the proxy, sealed to the client
	ModeGateway Mode = "gateway" // acme-gateway: passed through, nothing is stored
	ModeACME    Mode = "acme"    // relayed to a stock ACME client (RFC 8555)
	// ModeChallenge is for clients with an account of their own at a CA. The proxy
	// answers their HTTP-01 challenges, and never sees their certificates.
	ModeChallenge Mode = "challenge"
	ModeSign      Mode = "sign" // a CSR of a script is signed, by the rules of ACMEMS
)

// ModeProperties describes how a mode differs from others.
type ModeProperties struct {
	KeepsNames bool // names and serial numbers may be stored and logged
	OwnsNames  bool // a name belongs to one client, as long as that client may have it
	Unattended bool // the proxy renews while the client is away
	Grantable  bool // a grant may allow the mode
	Native     bool // a client requests certificates of it through the native API
}

// Canonical returns the mode that a person means, who may use its full name:
// certificate-agent for agent, acme-gateway for gateway, acme-client for client. It
// returns any other text as it is. Databases and the API have canonical modes only.
func (m Mode) Canonical() Mode {
	switch m {
	case "acme-client":
		return ModeClient
	case "certificate-agent":
		return ModeAgent
	case "acme-gateway":
		return ModeGateway
	}
	return m
}

// Properties returns the mode's properties; those of an unknown mode are all
// false.
func (m Mode) Properties() ModeProperties {
	switch m {
	case ModeClient:
		return ModeProperties{KeepsNames: true, OwnsNames: true, Unattended: true}
	case ModeAgent:
		return ModeProperties{KeepsNames: true, OwnsNames: true, Unattended: true, Grantable: true, Native: true}
	case ModeGateway:
		return ModeProperties{Grantable: true, Native: true}
	case ModeACME, ModeChallenge:
		return ModeProperties{KeepsNames: true, Grantable: true}
	case ModeSign:
		return ModeProperties{KeepsNames: true}
	}
	return ModeProperties{}
}

// KeepsNames reports whether names may be stored and logged.
func (m Mode) KeepsNames() bool { return m.Properties().KeepsNames }

// OwnsNames reports whether a name belongs to one client in this mode.
func (m Mode) OwnsNames() bool { return m.Properties().OwnsNames }

// IsUnattended reports whether the proxy renews while the client is away.
func (m Mode) IsUnattended() bool { return m.Properties().Unattended }

// IsGrantable reports whether a grant may allow the mode.
func (m Mode) IsGrantable() bool { return m.Properties().Grantable }

// IsNative reports whether a client requests certificates of the mode through the
// native API.
func (m Mode) IsNative() bool { return m.Properties().Native }

// GrantableModes returns the modes that a grant may allow, the default first.
func GrantableModes() []Mode { return append(NativeModes(), ModeACME, ModeChallenge) }

// NativeModes returns the modes of the native API, the default first.
func NativeModes() []Mode { return []Mode{ModeAgent, ModeGateway} }

// JoinModes returns the modes as text, with sep between them.
func JoinModes(modes []Mode, sep string) string {
	texts := make([]string, 0, len(modes))
	for _, m := range modes {
		texts = append(texts, string(m))
	}
	return strings.Join(texts, sep)
}

// AsModes converts texts to canonical modes without checking that these modes exist.
func AsModes(texts []string) []Mode {
	modes := make([]Mode, 0, len(texts))
	for _, text := range texts {
		modes = append(modes, Mode(text).Canonical())
	}
	return modes
}
