package acme

import (
	"fmt"
	"strings"
)

// The types of identifiers.
const (
	TypeDNS = "dns" // RFC 8555, section 7.1.3
	TypeIP  = "ip"  // RFC 8738
)

// Identifier is the subject of an authorization or a problem.
type Identifier struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// The problem types (RFC 8555, section 6.7, and RFC 9773, section 7.4).
const (
	AccountDoesNotExist   = namespace + "accountDoesNotExist"
	AlreadyReplaced       = namespace + "alreadyReplaced"
	AlreadyRevoked        = namespace + "alreadyRevoked"
	BadCSR                = namespace + "badCSR"
	BadNonce              = namespace + "badNonce"
	BadPublicKey          = namespace + "badPublicKey"
	BadRevocationReason   = namespace + "badRevocationReason"
	BadSignatureAlgorithm = namespace + "badSignatureAlgorithm"
	Compound              = namespace + "compound"
	Connection            = namespace + "connection"
	DNS                   = namespace + "dns"
	ExternalAccountNeeded = namespace + "externalAccountRequired"
	IncorrectResponse     = namespace + "incorrectResponse"
	InvalidContact        = namespace + "invalidContact"
	InvalidProfile        = namespace + "invalidProfile"
	Malformed             = namespace + "malformed"
	OrderNotReady         = namespace + "orderNotReady"
	RateLimit             = namespace + "rateLimited"
	RejectedIdentifier    = namespace + "rejectedIdentifier"
	ServerInternal        = namespace + "serverInternal"
	TLS                   = namespace + "tls"
	Unauthorized          = namespace + "unauthorized"
	UnsupportedContact    = namespace + "unsupportedContact"
	UnsupportedIdentifier = namespace + "unsupportedIdentifier"
	UserActionRequired    = namespace + "userActionRequired"

	namespace = "urn:ietf:params:acme:error:"
)

// Problem is an ACME problem document (RFC 8555, section 6.7).
type Problem struct {
	Type        string       `json:"type"`
	Title       string       `json:"title,omitempty"`
	Detail      string       `json:"detail,omitempty"`
	Status      int          `json:"status,omitempty"` // HTTP status code
	Instance    string       `json:"instance,omitempty"`
	Identifier  *Identifier  `json:"identifier,omitempty"` // nil: the request as a whole
	Subproblems []Subproblem `json:"subproblems,omitempty"`
	Algorithms  []string     `json:"algorithms,omitempty"` // the accepted ones, with BadSignatureAlgorithm
}

// Subproblem is one of several problems, each about one identifier (RFC 8555,
// section 6.7.1).
type Subproblem struct {
	Type       string     `json:"type"`
	Detail     string     `json:"detail,omitempty"`
	Identifier Identifier `json:"identifier"`
}

// Error returns the details of the problem and its subproblems, and the type.
func (p *Problem) Error() string {
	text := p.Text()
	if short := ShortType(p.Type); short != "" {
		text += " (" + short + ")"
	}
	return text
}

// Text returns the details of the problem and its subproblems.
func (p *Problem) Text() string {
	var b strings.Builder
	b.WriteString(p.Detail)
	for _, s := range p.Subproblems {
		fmt.Fprintf(&b, "; %s: %s", s.Identifier.Value, s.Detail)
	}
	return b.String()
}

// ShortType returns a problem type without ACME's namespace.
func ShortType(problemType string) string { return strings.TrimPrefix(problemType, namespace) }
