package acmeserver

import (
	"bytes"
	"context"
	"maps"
	"sync"
	"time"
)

// Memory is a Storage in memory. It is for tests, and for servers whose clients may
// start again after a restart. It may be used concurrently.
type Memory struct {
	mu           sync.Mutex // guards all fields
	secrets      map[string][]byte
	nonces       map[string]time.Time // expiry of the used ones
	accounts     map[string]Account
	thumbprints  map[string]string // IDs of accounts
	owned        map[string]int    // number of accounts by owner
	orders       map[string]Order
	due          map[string]bool                           // orders with a DueAt
	issuing      map[string]string                         // ID of the order that is Issuing, by Share
	open         sets                                      // orders that are not valid, or Joined, by owner
	waiting      sets                                      // orders that are processing, by Share
	listed       sets                                      // orders that are not invalid, by account
	authorized   map[authorizationKey]map[string]time.Time // expiry by order
	certificates map[string]*storedCertificate             // by ID
	fingerprints sets                                      // certificates
	renewals     sets                                      // certificates by ARIID
	shared       sets                                      // certificates that may be handed out again
}

// sets holds sets of IDs by a key.
type sets map[string]map[string]bool

func (s sets) add(key, id string) {
	if s[key] == nil {
		s[key] = map[string]bool{}
	}
	s[key][id] = true
}

func (s sets) remove(key, id string) {
	delete(s[key], id)
	if len(s[key]) == 0 {
		delete(s, key)
	}
}

// NewMemory returns an empty storage.
func NewMemory() *Memory {
	return &Memory{
		secrets: map[string][]byte{}, nonces: map[string]time.Time{},
		accounts: map[string]Account{}, thumbprints: map[string]string{}, owned: map[string]int{},
		orders: map[string]Order{}, due: map[string]bool{}, issuing: map[string]string{}, open: sets{}, waiting: sets{}, listed: sets{},
		authorized:   map[authorizationKey]map[string]time.Time{},
		certificates: map[string]*storedCertificate{}, fingerprints: sets{}, renewals: sets{}, shared: sets{},
	}
}

// Secret implements Storage.
func (m *Memory) Secret(_ context.Context, name string, value []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.secrets[name]; !ok {
		m.secrets[name] = bytes.Clone(value)
	}
	return bytes.Clone(m.secrets[name]), nil
}

// UseNonce implements Storage.
func (m *Memory) UseNonce(_ context.Context, id string, expires time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, used := m.nonces[id]; used {
		return ErrExists
	}
	m.nonces[id] = expires
	return nil
}

// PurgeNonces implements Storage.
func (m *Memory) PurgeNonces(_ context.Context, before time.Time, limit int) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for id, expires := range m.nonces {
		if n == limit {
			return true, nil
		}
		if expires.Before(before) {
			delete(m.nonces, id)
			n++
		}
	}
	return false, nil
}

// CreateAccount implements Storage.
func (m *Memory) CreateAccount(_ context.Context, a Account, most int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, same := m.thumbprints[a.Thumbprint]
	if _, ok := m.accounts[a.ID]; ok || same {
		return ErrExists
	}
	if most > 0 && m.owned[a.Owner] >= most {
		return ErrTooMany
	}
	a.Version = 1
	m.putAccount(a)
	return nil
}

// putAccount stores an account, which replaces the one with the same ID.
func (m *Memory) putAccount(a Account) {
	if old, ok := m.accounts[a.ID]; ok {
		m.deleteAccount(old)
	}
	m.accounts[a.ID] = copyAccount(a)
	m.thumbprints[a.Thumbprint] = a.ID
	m.owned[a.Owner]++
}

func (m *Memory) deleteAccount(a Account) {
	delete(m.accounts, a.ID)
	delete(m.thumbprints, a.Thumbprint)
	if m.owned[a.Owner]--; m.owned[a.Owner] == 0 {
		delete(m.owned, a.Owner)
	}
}

// AccountByID implements Storage.
func (m *Memory) AccountByID(_ context.Context, id string) (Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.accounts[id]
	if !ok {
		return Account{}, ErrNotFound
	}
	return copyAccount(a), nil
}

// AccountByKey implements Storage.
func (m *Memory) AccountByKey(_ context.Context, thumbprint string) (Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.accounts[m.thumbprints[thumbprint]]
	if !ok {
		return Account{}, ErrNotFound
	}
	return copyAccount(a), nil
}

// UpdateAccount implements Storage.
func (m *Memory) UpdateAccount(_ context.Context, a Account) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, ok := m.accounts[a.ID]
	if !ok {
		return ErrNotFound
	}
	if old.Version != a.Version {
		return ErrStale
	}
	if id, ok := m.thumbprints[a.Thumbprint]; ok && id != a.ID {
		return ErrExists
	}
	a.Version++
	m.putAccount(a)
	return nil
}

// Purge implements Storage.
func (m *Memory) Purge(_ context.Context, before time.Time, limit int) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	orders, more := endedBefore(maps.All(m.orders), func(o Order) time.Time { return o.Expires }, before, limit)
	for _, id := range orders {
		m.deleteOrder(m.orders[id])
	}
	certificates, moreCertificates := endedBefore(maps.All(m.certificates), func(c *storedCertificate) time.Time { return c.NotAfter }, before, limit)
	for _, id := range certificates {
		m.deleteCertificate(id)
	}
	deactivated := func(yield func(string, Account) bool) {
		for id, a := range m.accounts {
			if a.Status == StatusDeactivated && !yield(id, a) {
				return
			}
		}
	}
	accounts, moreAccounts := endedBefore(deactivated, func(a Account) time.Time { return a.CreatedAt }, before, limit)
	for _, id := range accounts {
		m.deleteAccount(m.accounts[id])
	}
	return more || moreCertificates || moreAccounts, nil
}
