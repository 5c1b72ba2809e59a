package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// former describes the certificate on the disk after its names or mode were changed.
// It is renewed until the new certificate is installed, so that no service is without
// one.
type former struct {
	Names   cert.Names   `json:"names"`
	Mode    clients.Mode `json:"mode"`
	KeyType cert.KeyType `json:"key_type"`
	Profile string       `json:"profile,omitempty"`
	ID      string       `json:"id,omitempty"`
	ETag    string       `json:"etag,omitempty"`
	// AgentTried is set if a later certificate of agent mode was wanted, too. A process
	// that was killed may have left its files.
	AgentTried bool `json:"agent_tried,omitempty"`
}

// Installed returns the names of the certificate on the disk. They differ from k.Names
// until a certificate for those is installed.
func (k *Kept) Installed() cert.Names {
	if k.Former != nil {
		return k.Former.Names
	}
	return k.Names
}

func (f *former) validate() error {
	if f != nil && (len(f.Names) == 0 || !f.Mode.IsNative()) {
		return errors.New("former: it has no names or no mode")
	}
	return nil
}

// replaceBy prepares k for another certificate. The certificate on the disk becomes
// the former one. One that never arrived is only withdrawn from the proxy.
func (k *Kept) replaceBy(w Wanted) {
	k.replaced = true
	switch {
	case k.Former != nil || k.Serial == "":
		k.withdrawLater(k.ID)
		if k.Former != nil && k.Mode.IsUnattended() {
			k.Former.AgentTried = true
		}
	default:
		k.Former = &former{Names: k.Names, Mode: k.Mode, KeyType: k.KeyType, Profile: k.Profile, ID: k.ID, ETag: k.ETag}
	}
	k.ID, k.ETag, k.Tries = "", "", nil
	k.Failures, k.LastError, k.NextAttempt, k.AskAgain, k.Transient = 0, "", time.Time{}, time.Time{}, false
	if f := k.Former; f != nil && f.Names.Equal(w.Names) && f.Mode == w.Mode { // back to what is installed
		if f.KeyType == w.KeyType {
			k.ID, k.ETag = f.ID, f.ETag
		}
		k.Former = nil
	}
}

func (k *Kept) withdrawLater(id string) {
	if id != "" {
		k.Withdraw = append(k.Withdraw, id)
	}
}

// settleFormer ends the former certificate, because the new one is in its place.
func (k *Kept) settleFormer() {
	if k.Former != nil && k.Former.ID != k.ID {
		k.withdrawLater(k.Former.ID)
	}
	k.Former = nil
}

// managedIDs returns the IDs that the proxy has for this certificate.
func (k *Kept) managedIDs() []string {
	var ids []string
	if k.ID != "" {
		ids = append(ids, k.ID)
	}
	if k.Former != nil && k.Former.ID != "" {
		ids = append(ids, k.Former.ID)
	}
	return append(ids, k.Withdraw...)
}

// withdraw makes the proxy stop managing the certificates that this one replaced. What
// fails stays in the state and is repeated. The caller must hold the lock of k.
func (g *Getter) withdraw(ctx context.Context, k *Kept) error {
	for len(k.Withdraw) > 0 {
		id := k.Withdraw[0]
		used, err := g.state.isUsed(id, k)
		if err != nil {
			return err
		}
		if !used {
			err = g.api.Delete(ctx, id, false)
			if isSharedProblem(err) {
				k.shared = append(k.shared, &SharedError{Name: k.Name, ID: id})
			} else if err != nil && !isGone(err) && !isStatus(err, http.StatusConflict) {
				return err
			}
		}
		k.Withdraw = k.Withdraw[1:]
		if err := k.save(); err != nil {
			return err
		}
	}
	return nil
}

// SharedError reports that the proxy still manages a former certificate, because other
// hosts of the client use it.
type SharedError struct{ Name, ID string } // stored name of the present certificate; ID of the former one

func (e *SharedError) Error() string {
	return fmt.Sprintf("the proxy continues to renew the former certificate of %q for the other hosts of this client", e.Name)
}

// StillShared returns a *SharedError for each former certificate that the proxy refused
// to withdraw in this call of GetWith.
func (k *Kept) StillShared() []error { return k.shared }

// isUsed reports whether a certificate of this host, except the withdrawn ones of k,
// has that ID at the proxy.
func (s *State) isUsed(id string, k *Kept) (bool, error) {
	all, err := s.rows()
	if err != nil {
		return false, err
	}
	for _, other := range all {
		if other.path == k.path {
			other = k
		}
		if other.ID == id || other.Former != nil && other.Former.ID == id {
			return true, nil
		}
	}
	return false, nil
}

// formerKept returns the former certificate of k in the form of a Kept. To save it
// saves k.
func (k *Kept) formerKept() *Kept {
	f := k.Former
	old := *k
	old.Names, old.Mode, old.KeyType, old.Profile = f.Names, f.Mode, f.KeyType, f.Profile
	old.ID, old.ETag, old.Former, old.Withdraw = f.ID, f.ETag, nil, nil
	old.store = func(now *Kept) error {
		f.ID, f.ETag = now.ID, now.ETag
		k.Serial, k.NotAfter, k.HookDue, k.Revoked = now.Serial, now.NotAfter, now.HookDue, now.Revoked
		return k.save()
	}
	return &old
}
