package remote

import (
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// unstored holds certificates and delays in memory while the disk is full or broken.
// Without it, each turn would order another certificate that cannot be stored. It is
// safe for concurrent use.
type unstored struct {
	mu      sync.Mutex
	bundles map[string]issued // guarded by mu; by unstoredKey
	delays  map[string]delay  // guarded by mu; by path of the Kept
}

// issued holds a certificate of gateway mode and the parameters of its order.
type issued struct {
	*cert.Bundle
	keyType cert.KeyType
	profile string
}

// unstoredKey identifies the certificate of k. Its names may change.
func unstoredKey(k *Kept) string { return k.path + "\n" + k.Names.Key() }

// hold stores a bundle that could not be installed.
func (u *unstored) hold(k *Kept, b *cert.Bundle) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bundles == nil {
		u.bundles = map[string]issued{}
	}
	u.bundles[unstoredKey(k)] = issued{b, k.KeyType, k.Profile}
}

// take removes and returns the bundle that is held for k. It returns nil if no bundle
// is held, or if another kind of certificate is wanted now.
func (u *unstored) take(k *Kept) *cert.Bundle {
	u.mu.Lock()
	defer u.mu.Unlock()
	i, ok := u.bundles[unstoredKey(k)]
	delete(u.bundles, unstoredKey(k))
	if !ok || i.keyType != k.KeyType || i.profile != k.Profile || i.Serial() == k.Revoked {
		return nil
	}
	return i.Bundle
}

// delay holds a result of settle that could not be saved. It is valid as long as the
// file has not changed.
type delay struct {
	failures    int
	lastError   string
	nextAttempt time.Time
	transient   bool
	fileSerial  string
	fileFails   int
}

// save saves k. If that fails, it stores the delay of k in memory. file is the content
// of the state file before the turn.
func (u *unstored) save(k *Kept, file Kept) error {
	err := k.save()
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.delays, k.path)
	if err != nil {
		if u.delays == nil {
			u.delays = map[string]delay{}
		}
		u.delays[k.path] = delay{k.Failures, k.LastError, k.NextAttempt, k.Transient, file.Serial, file.Failures}
	}
	return err
}

// recall adds to k the delay that could not be saved.
func (u *unstored) recall(k *Kept) {
	u.mu.Lock()
	defer u.mu.Unlock()
	d, ok := u.delays[k.path]
	if ok && d.fileSerial == k.Serial && d.fileFails == k.Failures {
		k.Failures, k.LastError, k.NextAttempt, k.Transient = d.failures, d.lastError, d.nextAttempt, d.transient
	}
}
