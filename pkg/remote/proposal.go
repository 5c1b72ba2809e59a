package remote

import (
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// proposal holds the failures of other names or another mode that a command requested
// for a certificate. The certificate stays as it is, so they are not its own failures.
type proposal struct {
	Names       cert.Names   `json:"names"`
	Mode        clients.Mode `json:"mode"`
	Tries       []time.Time  `json:"tries,omitempty"`
	Failures    int          `json:"failures,omitempty"`
	LastError   string       `json:"last_error,omitempty"`
	NextAttempt time.Time    `json:"next_attempt,omitzero"`
	WaitUntil   time.Time    `json:"wait_until,omitzero"`
	ProxyAsked  bool         `json:"proxy_asked,omitempty"`
}

// proposedKept returns the stored proposal of k in the form of a Kept, or a new one. To
// save it saves the stored certificate, not k. The caller must hold the lock of k.
func (k *Kept) proposedKept() (*Kept, error) {
	stored, err := readNamed(k)
	if err != nil {
		return nil, err
	}
	proposed := &Kept{Wanted: k.Wanted, path: k.path}
	if p := stored.Proposed; p != nil && p.Names.Equal(k.Names) && p.Mode == k.Mode {
		proposed.Tries, proposed.Failures, proposed.LastError = p.Tries, p.Failures, p.LastError
		proposed.NextAttempt, proposed.WaitUntil, proposed.ProxyAsked = p.NextAttempt, p.WaitUntil, p.ProxyAsked
		proposed.unpark(time.Now())
	}
	proposed.store = func(now *Kept) error {
		stored.Proposed = &proposal{now.Names, now.Mode, now.Tries, now.Failures, now.LastError, now.NextAttempt, now.WaitUntil, now.ProxyAsked}
		return stored.save()
	}
	return proposed, nil
}
