// Package api holds the wire types of the native API, shared by the proxy's
// frontend and the remote. It has no behaviour beyond encoding.
//
// Times are RFC 3339 in UTC. Unknown times are omitted. Errors are problem documents
// (RFC 9457).
package api

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// Paths of the API, and the content types that are not JSON.
const (
	PathEnroll       = "/v1/enroll"
	PathClient       = "/v1/client"
	PathClientKey    = "/v1/client/key"
	PathCertificates = "/v1/certificates"
	PathRevoke       = "/v1/certificates/revoke"
	PathChecks       = "/v1/checks"
	PathHTTP01       = "/v1/challenges/http-01" // and a token
	PathHealth       = "/health"
	PathOpenAPI      = "/openapi.json"

	TypeEvents  = "application/x-ndjson"
	TypeBundle  = "application/age"
	TypeProblem = "application/problem+json"
	TypeHealth  = "application/health+json"
	TypeOpenAPI = "application/vnd.oai.openapi+json"
)

// ALPN is a protocol name that a remote offers in addition to h2 and http/1.1. It is
// never negotiated. It asks the proxy for the certificate that enrolment tokens pin,
// instead of the one that browsers trust.
const ALPN = "acmeproxy-pinned/1"

// MaxWait bounds a long poll.
const MaxWait = 60 * time.Second

// MaxCheck bounds the checks of one CheckRequest.
const MaxCheck = 55 * time.Second

// Limits of bodies, in bytes.
const (
	MaxRequest = 256 << 10
	MaxEnroll  = 32 << 10 // of an unauthenticated client
	MaxPresent = 2 << 10  // of a PresentRequest
	MaxEvent   = 1 << 20
	MaxAnswer  = 4 << 20
)

// MaxEnrollRecipients is the maximum number of recipients in an EnrollRequest.
const MaxEnrollRecipients = 16

// EnrollRequest registers the TLS key of its connection.
type EnrollRequest struct {
	Secret     string   `json:"secret" minLength:"1" maxLength:"64" doc:"the enrolment token's secret, base64url without padding"`
	Recipients []string `json:"recipients" maxItems:"16" doc:"age recipients to which bundles are sealed: age1…, ssh-ed25519 … or ssh-rsa … of at most 4096 bits"`
}

// Client describes the caller: its name at the proxy, its recipients and its grants.
type Client struct {
	Name       string          `json:"name"`
	Recipients []string        `json:"recipients" doc:"everyone who can open this client's bundles"`
	Grants     []clients.Grant `json:"grants"`
	Hosts      int             `json:"hosts,omitempty" doc:"number of enrolled hosts, which share the client's certificates; only of GET"`
}

// KeyRequest replaces the TLS key of its connection by a new one.
type KeyRequest struct {
	PublicKey  []byte   `json:"public_key" minLength:"1" maxLength:"3000" doc:"of the new key: SubjectPublicKeyInfo in DER; Ed25519, ECDSA P-256 or P-384, RSA of 2048 to 8192 bits"`
	Proof      []byte   `json:"proof" minLength:"1" maxLength:"2000" doc:"signature by the new key over the text \"acmeproxy client key rollover v1\", a zero byte, SHA-256 of the old key's SubjectPublicKeyInfo, SHA-256 of public_key: Ed25519, ECDSA with SHA-256 (ASN.1), or RSA-PSS with SHA-256 and a salt of 32 bytes"`
	Recipients []string `json:"recipients,omitempty" maxItems:"64" doc:"age recipients to add"`
	Retire     []string `json:"retire,omitempty" maxItems:"64" doc:"recipients to remove; the comment of an SSH key does not count"`
}

// CertificateRequest asks for a certificate. It has either names, or a CSR that
// contains them.
type CertificateRequest struct {
	Mode    clients.Mode `json:"mode" enum:"agent,gateway" doc:"agent: the proxy renews it and seals it; gateway: one certificate now, which the proxy does not store"`
	Names   []string     `json:"names,omitempty" maxItems:"100" doc:"DNS names; may be left out with a CSR"`
	CSR     string       `json:"csr,omitempty" maxLength:"65536" doc:"PKCS#10 in PEM; without it the proxy generates the key in memory and seals it to the client's recipients"`
	KeyType string       `json:"key_type,omitempty" maxLength:"16" doc:"of the key that the proxy generates: ec256 (default), ec384, rsa2048, rsa4096, rsa8192"`
	Profile string       `json:"profile,omitempty" maxLength:"64" doc:"one of the CA's profiles, such as shortlived; if omitted, the CA's default"`
}

// Certificate describes a certificate that the proxy manages.
type Certificate struct {
	ID          string       `json:"id"`
	Mode        clients.Mode `json:"mode"`
	Names       []string     `json:"names"`
	Status      string       `json:"status" enum:"pending,valid,failing,expired,revoked" doc:"failing: the last attempt failed, but a bundle that is still valid is available. revoked: there is no bundle until a new certificate is obtained"`
	Serial      string       `json:"serial,omitempty" doc:"lower-case hexadecimal"`
	NotBefore   *time.Time   `json:"not_before,omitempty"`
	NotAfter    *time.Time   `json:"not_after,omitempty"`
	NextAttempt *time.Time   `json:"next_attempt,omitempty" doc:"when the proxy renews, or tries again"`
	RetryAfter  *int         `json:"retry_after,omitempty" doc:"seconds until next_attempt by the proxy's clock; 0 if it is due"`
	Attempting  bool         `json:"attempting,omitempty" doc:"an attempt is under way"`
	Failures    int          `json:"failures,omitempty" doc:"attempts that failed since the last success, without those that people and starts caused earlier than planned"`
	LastError   string       `json:"last_error,omitempty"`
	LastErrorAt *time.Time   `json:"last_error_at,omitempty"`
}

// Until returns the time left until NextAttempt, and whether there is a next attempt.
// It uses the proxy's clock if RetryAfter is set, which older proxies do not send.
func (c *Certificate) Until(now time.Time) (time.Duration, bool) {
	if c.NextAttempt == nil {
		return 0, false
	}
	if c.RetryAfter != nil {
		return time.Duration(min(max(*c.RetryAfter, 0), math.MaxInt32)) * time.Second, true
	}
	return max(c.NextAttempt.Sub(now), 0), true
}

// The states of a Certificate.
const (
	StatusPending = "pending"
	StatusValid   = "valid"
	StatusFailing = "failing"
	StatusExpired = "expired"
	StatusRevoked = "revoked"
	// StatusSuperseded means that another client now has one of the names. The
	// certificate is not renewed.
	StatusSuperseded = "superseded"
)

// RevokeRequest asks for the revocation of a certificate that the caller holds.
type RevokeRequest struct {
	Certificate string `json:"certificate" minLength:"1" maxLength:"65536" doc:"the leaf in PEM, as in cert.pem"`
	Reason      string `json:"reason,omitempty" maxLength:"32" doc:"unspecified (default), keyCompromise, superseded or cessationOfOperation, in any case"`
	Proof       string `json:"proof,omitempty" maxLength:"1400" doc:"base64 of a signature by the certificate's key, of the text in docs/security.md; not needed for the current certificate of one that the proxy manages for the caller"`
	Forget      bool   `json:"forget,omitempty" doc:"if the proxy manages the certificate for the caller: stop managing it instead of obtaining another"`
}

// Revocation reports that a certificate is revoked or has expired.
type Revocation struct {
	Serial      string     `json:"serial" doc:"lower-case hexadecimal"`
	Reason      string     `json:"reason"`
	ID          string     `json:"id,omitempty" doc:"of the managed certificate whose current one it was"`
	NextAttempt *time.Time `json:"next_attempt,omitempty" doc:"when the proxy obtains another, if it manages the certificate"`
	RetryAfter  int        `json:"retry_after,omitempty" doc:"seconds until then"`
}

// CertificateList is one page of a client's certificates.
type CertificateList struct {
	Certificates []Certificate `json:"certificates"`
	Next         string        `json:"next,omitempty" doc:"pass it as ?after= for the next page"`
}

// Event is one line of a gateway's answer. The last line has a chain, a sealed bundle
// or a problem.
type Event struct {
	Event      string   `json:"event" enum:"stage,waiting,certificate,problem"`
	Stage      string   `json:"stage,omitempty" doc:"queued, ordering, publishing, challenge, validating, finalizing, issuing, issued"`
	Identifier string   `json:"identifier,omitempty"`
	Chain      string   `json:"chain,omitempty" doc:"PEM, leaf first; the answer to a CSR"`
	Bundle     []byte   `json:"bundle,omitempty" doc:"age ciphertext of key and chain; the answer to a request without CSR"`
	Problem    *Problem `json:"problem,omitempty"`
}

// The kinds of Event.
const (
	EventStage       = "stage"
	EventWaiting     = "waiting"
	EventCertificate = "certificate"
	EventProblem     = "problem"
)

// ProblemShared is the type of the problem that refuses to delete a certificate which
// other hosts of the client use, too.
const ProblemShared = "urn:acmeproxy:error:shared"

// Problem is an RFC 9457 problem document. It is also the remote's error.
type Problem struct {
	Type       string         `json:"type,omitempty"`
	Title      string         `json:"title,omitempty"`
	Status     int            `json:"status,omitempty"`
	Detail     string         `json:"detail,omitempty"`
	Errors     []ProblemField `json:"errors,omitempty"`
	RetryAfter int            `json:"retry_after,omitempty" doc:"seconds"`
}

// ProblemField describes one fault of a request.
type ProblemField struct {
	Message  string `json:"message"`
	Location string `json:"location,omitempty" doc:"such as body.names"`
}

func (p *Problem) Error() string {
	s := p.Detail
	if s == "" {
		s = p.Title
	}
	for _, f := range p.Errors {
		if !strings.Contains(s, f.Message) {
			s += fmt.Sprintf("; %s: %s", strings.TrimPrefix(f.Location, "body."), f.Message)
		}
	}
	return s
}

// Health is the answer of /health (draft-inadarei-api-health-check).
type Health struct {
	Status  string `json:"status"`
	Version string `json:"version,omitempty"`
	Output  string `json:"output,omitempty"`
}
