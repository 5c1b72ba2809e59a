package admin

import (
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// NewClient is a request to add a client.
type NewClient struct {
	Name       string          `json:"name"`
	Grants     []clients.Grant `json:"grants"`
	Recipients []string        `json:"recipients,omitempty"`
	Bearer     bool            `json:"bearer,omitempty"`     // as in Secret
	URL        string          `json:"url,omitempty"`        // as in Secret
	TokenLife  JSONDuration    `json:"token_life,omitempty"` // as in Secret
	NoSecret   bool            `json:"no_secret,omitempty"`  // the client gets its credential of the ACME door later
}

// NewClientAnswer holds the only copy of the client's secret.
type NewClientAnswer struct {
	Client      Client    `json:"client"`
	EnrollToken string    `json:"enroll_token,omitempty"`
	BearerToken string    `json:"bearer_token,omitempty"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
}

// Client describes a client for the administrator.
type Client struct {
	Name        string          `json:"name"`
	Disabled    bool            `json:"disabled"`
	CreatedAt   time.Time       `json:"created_at"`
	Grants      []clients.Grant `json:"grants"`
	Recipients  []string        `json:"recipients"`
	Warnings    []string        `json:"warnings,omitempty"` // about recipients that a new client must not have
	Credentials []Credential    `json:"credentials,omitempty"`
	// Certificates holds those in agent mode. Those of gateway mode are not stored.
	Certificates []Certificate `json:"certificates,omitempty"`
}

// Credential describes a credential of a client, without the secret.
type Credential struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"` // tls-key, bearer, enroll, acme-eab, acme-directory, acme-key
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	Networks  []string  `json:"networks,omitempty"` // from which it may be used; none: any
	// Kid is the key identifier of acme-eab, if it is known, and Thumbprint the one of
	// acme-key (RFC 7638).
	Kid        string `json:"kid,omitempty"`
	Thumbprint string `json:"thumbprint,omitempty"`
	// LastUsed is the time of the last use at the ACME door, to the hour, and LastFrom its
	// address.
	LastUsed time.Time `json:"last_used,omitzero"`
	LastFrom string    `json:"last_from,omitempty"`
}

// RevokeClient is a request to revoke a client's certificates.
type RevokeClient struct {
	Reason string `json:"reason,omitempty"`
	After  string `json:"after,omitempty"` // Next of the previous page
}

// Revoked is the outcome for one certificate.
type Revoked struct {
	Names  []string `json:"names"`
	Serial string   `json:"serial,omitempty"`
	Error  string   `json:"error,omitempty"` // why it is not revoked
}

// RevokedList is one page of certificates.
type RevokedList struct {
	Revoked []Revoked `json:"revoked"`
	Next    string    `json:"next,omitempty"` // the After of the next page
}

// Status is the proxy's own state.
type Status struct {
	Version      string        `json:"version"`
	HTTPAddr     string        `json:"http_addr"`
	HTTPSAddr    string        `json:"https_addr"`
	Store        string        `json:"store"` // without secrets
	Hostname     string        `json:"hostname,omitempty"`
	Directory    string        `json:"acme_directory_url"`
	Challenge    string        `json:"challenge"` // for names that are not wildcards
	HTTP01       string        `json:"http_01"`   // publisher of its answers: HTTP01Proxy, …Webroot, …Hook or …Disabled
	DNS01        bool          `json:"dns_01"`    // wildcards can be issued
	Needs        []string      `json:"needs,omitempty"`
	ACME         *ACMEStatus   `json:"acme,omitempty"`      // nil without a hostname and a public URL
	Instances    *Instances    `json:"instances,omitempty"` // with PostgreSQL
	Certificates []Certificate `json:"certificates"`        // acme-client mode
}

// ACMEStatus is the state of the ACME door.
type ACMEStatus struct {
	Directory  string `json:"directory"` // URL
	SelfSigned bool   `json:"self_signed"`
	// NotFor is the host of the directory if the API's certificate of the CA is not, or
	// will not be, for that name.
	NotFor string `json:"not_for,omitempty"`
}

// Instances lists the instances on the same database.
type Instances struct {
	Self    string     `json:"self"`
	Others  []Instance `json:"others"`
	Problem string     `json:"trouble,omitempty"` // why messages of others may not arrive
}

// Instance describes another instance from which messages arrive.
type Instance struct {
	Name    string    `json:"name"`
	HeardAt time.Time `json:"heard_at"`
	Silent  bool      `json:"silent,omitempty"` // it did not acknowledge an answer to a challenge in time
}

// CA describes the upstream CA and the proxy's account.
type CA struct {
	Directory     string   `json:"acme_directory_url"`
	CAAIdentities []string `json:"caa_identities,omitempty"` // RFC 8555, section 7.1.1
	AccountURL    string   `json:"account_url,omitempty"`    // if empty, not registered yet
}

// NewProbe is a request for a probe. Port 80 answers its random token for one host,
// until it is removed or after ProbeLife.
type NewProbe struct {
	Name string `json:"name"`
}

// Probe describes an answer of port 80: Body, at the HTTP-01 path of Token.
type Probe struct {
	Token string `json:"token"`
	Body  string `json:"body"`
}

// The publishers of answers to HTTP-01.
const (
	HTTP01Proxy    = "proxy"
	HTTP01Webroot  = "webroot"
	HTTP01Hook     = "hook"
	HTTP01Disabled = "none"
)

// JSONDuration is a duration, encoded as a string such as "24h".
type JSONDuration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d JSONDuration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *JSONDuration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = JSONDuration(v)
	return err
}

// AuditEntry is one line of the audit trail.
type AuditEntry struct {
	ID      int64        `json:"id"`
	At      time.Time    `json:"at"`
	Client  string       `json:"client,omitempty"`
	Addr    string       `json:"addr,omitempty"`
	Action  string       `json:"action"`
	Mode    clients.Mode `json:"mode,omitempty"`
	Names   []string     `json:"names,omitempty"`
	Outcome string       `json:"outcome"`
	Detail  string       `json:"detail,omitempty"`
}

// AuditList is one page of the audit trail, newest first.
type AuditList struct {
	Entries []AuditEntry `json:"entries"`
	Before  int64        `json:"before,omitempty"` // the Before of the next page
}

// ClientList is one page of clients.
type ClientList struct {
	Clients []Client `json:"clients"`
	Next    string   `json:"next,omitempty"`
}
