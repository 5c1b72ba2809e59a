package admin

import (
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// Certificate is a managed certificate.
type Certificate struct {
	ID          string       `json:"id"`
	Names       []string     `json:"names"`
	Mode        clients.Mode `json:"mode"`
	Client      string       `json:"client,omitempty"`
	Disabled    bool         `json:"client_disabled,omitempty"` // nothing is renewed while its client is disabled
	Serial      string       `json:"serial,omitempty"`
	NotAfter    time.Time    `json:"not_after,omitzero"`
	NextAttempt time.Time    `json:"next_attempt,omitzero"`
	Attempting  bool         `json:"attempting,omitempty"` // an attempt is in progress
	Failures    int          `json:"failures,omitempty"`
	LastError   string       `json:"last_error,omitempty"`
	LastErrorAt time.Time    `json:"last_error_at,omitzero"`
	WaitUntil   time.Time    `json:"wait_until,omitzero"` // the CA asked for no attempt before
	HookError   string       `json:"hook_error,omitempty"`
	// Deployment is the pending deployment of the files and the hook, or nil.
	Deployment *Deployment `json:"deployment,omitempty"`
	// SupersededAt is when a name passed to another client. Renewals stop then.
	SupersededAt time.Time `json:"superseded_at,omitzero"`
	// RevokedAt is when it was revoked. It is zero again after a replacement.
	RevokedAt time.Time `json:"revoked_at,omitzero"`

	// Name, Folder and NotConfigured are of the proxy's own host. A certificate that is
	// not configured is not renewed.
	Name          string `json:"name,omitempty"`
	Folder        string `json:"folder,omitempty"`
	NotConfigured bool   `json:"not_configured,omitempty"`
}

// CertificateDetails describes one certificate completely.
type CertificateDetails struct {
	Certificate
	KeyType       string    `json:"key_type,omitempty"` // empty: the client has the key
	Profile       string    `json:"profile,omitempty"`  // empty: the CA's default
	CA            string    `json:"ca,omitempty"`       // directory URL of the CA that issued it; empty: unknown
	NotBefore     time.Time `json:"not_before,omitzero"`
	RenewFrom     time.Time `json:"renew_from,omitzero"`      // begin of the time in which the CA suggests to renew
	RenewUntil    time.Time `json:"renew_until,omitzero"`     // its end
	RenewalInfoAt time.Time `json:"renewal_info_at,omitzero"` // when the CA is asked for it again
	ReplaceableAt time.Time `json:"replaceable_at,omitzero"`  // before this time, a revoked certificate is not replaced
	CreatedAt     time.Time `json:"created_at"`
}

// Deployment describes a deployment that has not succeeded yet.
type Deployment struct {
	RunBy       string    `json:"run_by,omitempty"`      // instance that runs it; if empty, it waits
	LeaseUntil  time.Time `json:"lease_until,omitzero"`  // when another instance may take it over
	NextAttempt time.Time `json:"next_attempt,omitzero"` // in the past while it runs
	Failures    int       `json:"failures,omitempty"`
}

// CertificateList is one page of managed certificates, ordered by ID.
type CertificateList struct {
	Certificates []Certificate `json:"certificates"`
	Next         string        `json:"next,omitempty"` // the After of the next page
}

// RevokeCertificate is a request to revoke a certificate.
type RevokeCertificate struct {
	Reason string `json:"reason,omitempty"`
	Forget bool   `json:"forget,omitempty"` // stop managing it instead of replacing it
}
