package remote

import (
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// Report holds what commands print of a Kept as JSON.
type Report struct {
	Name    string       `json:"name,omitempty"`
	Names   cert.Names   `json:"names"`
	Mode    clients.Mode `json:"mode"`
	KeyType cert.KeyType `json:"key_type"`
	Out     string       `json:"out"`
	Hook    string       `json:"hook,omitempty"`
	Profile string       `json:"profile,omitempty"`
	Source  string       `json:"source,omitempty"`
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
	WaitUntil   time.Time `json:"wait_until,omitzero"`
	Transient   bool      `json:"transient,omitempty"`
	AskAgain    time.Time `json:"ask_again,omitzero"`

	Unlisted   bool        `json:"unlisted,omitempty"`
	Former     *former     `json:"former,omitempty"`
	Withdraw   []string    `json:"withdraw,omitempty"`
	Forgetting *forgetting `json:"forgetting,omitempty"`

	// InstalledNames holds the names of the certificate on the disk, if it is a former one.
	InstalledNames cert.Names `json:"installed_names,omitempty"`

	Conflict  string `json:"conflict,omitempty"`  // stored name of the certificate that has the folder
	Unchanged bool   `json:"unchanged,omitempty"` // get found a good certificate and ordered none
	Pending   bool   `json:"pending,omitempty"`   // an entry that the daemon has not read yet
}

// Report returns k as commands print it: the fields of the state file, and more.
func (k *Kept) Report() Report {
	f := k.file()
	var installed cert.Names
	if k.Former != nil {
		installed = k.Former.Names
	}
	return Report{
		Name: f.Name, Names: f.Names, Mode: f.Mode, KeyType: f.KeyType, Out: f.Out, Hook: f.Hook, Profile: f.Profile, Source: f.Source,
		Layout: f.Layout, ID: f.ID, ETag: f.ETag, Serial: f.Serial, NotAfter: f.NotAfter, HookDue: f.HookDue, Revoking: f.Revoking,
		Revoked: f.Revoked, Failures: f.Failures, LastError: f.LastError, NextAttempt: f.NextAttempt, WaitUntil: f.WaitUntil, Transient: f.Transient,
		AskAgain: f.AskAgain, Unlisted: f.Unlisted, Former: f.Former, Withdraw: f.Withdraw, Forgetting: f.Forgetting,
		InstalledNames: installed, Conflict: k.rival, Unchanged: k.unchanged,
	}
}

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
