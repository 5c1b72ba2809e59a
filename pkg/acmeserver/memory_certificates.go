package acmeserver

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// storedCertificate is a certificate with the Share of its order, which may be purged
// before it.
type storedCertificate struct {
	Certificate
	share string
}

// sharedKey returns the key of the certificates that may be handed out again.
func sharedKey(share, keyHash string) string { return share + "\x00" + keyHash }

func (m *Memory) putCertificate(c Certificate, share string) {
	m.certificates[c.ID] = &storedCertificate{copyCertificate(c), share}
	m.fingerprints.add(c.Fingerprint, c.ID)
	if c.ARIID != "" {
		m.renewals.add(c.ARIID, c.ID)
	}
	if share != "" {
		m.shared.add(sharedKey(share, c.KeyHash), c.ID)
	}
}

func (m *Memory) deleteCertificate(id string) {
	c := m.certificates[id]
	delete(m.certificates, id)
	m.fingerprints.remove(c.Fingerprint, id)
	m.renewals.remove(c.ARIID, id)
	m.shared.remove(sharedKey(c.share, c.KeyHash), id)
}

// newest returns the newest certificate of a set that keep accepts. The caller holds mu.
func (m *Memory) newest(ids map[string]bool, keep func(*storedCertificate) bool) (Certificate, error) {
	var found *storedCertificate
	for id := range ids {
		c := m.certificates[id]
		if keep(c) && (found == nil || cmp.Or(c.CreatedAt.Compare(found.CreatedAt), cmp.Compare(c.ID, found.ID)) > 0) {
			found = c
		}
	}
	if found == nil {
		return Certificate{}, ErrNotFound
	}
	return copyCertificate(found.Certificate), nil
}

// CertificateByID implements Storage.
func (m *Memory) CertificateByID(_ context.Context, id string) (Certificate, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.certificates[id]
	if !ok {
		return Certificate{}, ErrNotFound
	}
	return copyCertificate(c.Certificate), nil
}

// CertificatesByFingerprint implements Storage.
func (m *Memory) CertificatesByFingerprint(_ context.Context, fingerprint string) ([]Certificate, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Certificate
	for id := range m.fingerprints[fingerprint] {
		all = append(all, copyCertificate(m.certificates[id].Certificate))
	}
	slices.SortFunc(all, func(a, b Certificate) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// CertificateByARI implements Storage.
func (m *Memory) CertificateByARI(_ context.Context, ariID string) (Certificate, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.newest(m.renewals[ariID], func(*storedCertificate) bool { return true })
}

// Uncollected implements Storage.
func (m *Memory) Uncollected(_ context.Context, share, keyHash string, after, joined time.Time) (Certificate, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.newest(m.shared[sharedKey(share, keyHash)], func(c *storedCertificate) bool {
		return c.RevokedAt.IsZero() && (c.CreatedAt.After(after) && !c.Collected || c.CreatedAt.After(joined))
	})
}

// SetCollected implements Storage.
func (m *Memory) SetCollected(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.certificates[id]
	if !ok {
		return ErrNotFound
	}
	for same := range m.fingerprints[c.Fingerprint] {
		m.certificates[same].Collected = true
	}
	return nil
}

// SetRevoked implements Storage.
func (m *Memory) SetRevoked(_ context.Context, fingerprint string, at time.Time, reason int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.fingerprints[fingerprint]) == 0 {
		return ErrNotFound
	}
	err := ErrExists
	for id := range m.fingerprints[fingerprint] {
		if c := m.certificates[id]; c.RevokedAt.IsZero() {
			c.RevokedAt, c.Reason = at, reason
			err = nil
		}
	}
	return err
}
