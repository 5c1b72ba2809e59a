package remote

import (
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// Report holds what commands print of a Kept as JSON.
type Report struct {
	Names   cert.Names   `json:"names"`
	Mode    clients.Mode `json:"mode"`
	KeyType cert.KeyType `json:"key_type"`
	Out     string       `json:"out"`
	Hook    string       `json:"hook,omitempty"`
	Profile string       `json:"profile,omitempty"`
	certfile.Layout
	ID          string    `json:"id,omitempty"`
	ETag        string    `json:"etag,omitempty"`
	Serial      string    `json:"serial,omitempty"`
	NotAfter    time.Time `json:"not_after,omitzero"`
	HookDue     bool      `json:"hook_due,omitempty"`
	Revoking    *revoking `json:"revoking,omitempty"`
	Revoked     string    `json:"revoked,omitempty"`
	Failures    int       `json:"failures,omitempty"`
	LastError   string    `json:"last_error,omitempty"`
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	Transient   bool      `json:"transient,omitempty"`
	AskAgain    time.Time `json:"ask_again,omitzero"`
}

// Report returns k as commands print it. The types of state file and report have the
// same fields today, so one converts to the other.
func (k *Kept) Report() Report { return Report(k.file()) }

// RevokedReport holds what commands print of a Revoked as JSON.
type RevokedReport struct {
	Names       cert.Names   `json:"names"`
	Mode        clients.Mode `json:"mode"`
	Serial      string       `json:"revoked"`
	Reason      cert.Reason  `json:"reason"`
	Certificate *Report      `json:"certificate,omitempty"`
}

// Report returns r as commands print it.
func (r *Revoked) Report() RevokedReport {
	out := RevokedReport{Names: r.Names, Mode: r.Mode, Serial: r.Serial, Reason: r.Reason}
	if r.Certificate != nil {
		certificate := r.Certificate.Report()
		out.Certificate = &certificate
	}
	return out
}
