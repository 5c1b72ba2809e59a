package acmeserver

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"time"
)

// authorizationKey names what an account is authorized for.
type authorizationKey struct{ account, identifier string }

// CreateOrder implements Storage.
func (m *Memory) CreateOrder(_ context.Context, o Order, most int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.orders[o.ID]; ok {
		return ErrExists
	}
	if m.issuing[o.Share] != "" && o.Issuing {
		return ErrTurn
	}
	if most > 0 && m.costless(o.Owner, o.CreatedAt) >= most {
		return ErrTooMany
	}
	if o.Replaces != "" {
		if err := m.replace(o); err != nil {
			return err
		}
	}
	o.Version = 1
	m.putOrder(o)
	return nil
}

// costless returns the number of an owner's orders that count against its limit.
func (m *Memory) costless(owner string, now time.Time) (n int) {
	for id := range m.open[owner] {
		if m.orders[id].Expires.After(now) {
			n++
		}
	}
	return n
}

// replace marks the certificate that the order replaces.
func (m *Memory) replace(o Order) error {
	var found []*storedCertificate
	for id := range m.renewals[o.Replaces] {
		c := m.certificates[id]
		if c.AccountID != o.AccountID {
			continue
		}
		if m.isReplaced(c, o.CreatedAt) {
			return ErrReplaced
		}
		found = append(found, c)
	}
	if len(found) == 0 {
		return ErrNotFound
	}
	for _, c := range found {
		c.ReplacedBy = o.ID
	}
	return nil
}

// isReplaced reports whether an order replaces the certificate. An order that is not
// stored any more was valid, since the others gave the certificate up.
func (m *Memory) isReplaced(c *storedCertificate, now time.Time) bool {
	by, ok := m.orders[c.ReplacedBy]
	return c.ReplacedBy != "" && (!ok || by.Status == StatusValid || by.Expires.After(now))
}

// giveUp makes the certificate that an order should have replaced free for another one.
func (m *Memory) giveUp(o Order) {
	for id := range m.renewals[o.Replaces] {
		if c := m.certificates[id]; c.ReplacedBy == o.ID {
			c.ReplacedBy = ""
		}
	}
}

// putOrder stores an order, which replaces the one with the same ID.
func (m *Memory) putOrder(o Order) {
	if old, ok := m.orders[o.ID]; ok {
		m.forget(old)
	}
	m.orders[o.ID] = copyOrder(o)
	if !o.DueAt.IsZero() {
		m.due[o.ID] = true
	}
	if o.Issuing && o.Share != "" {
		m.issuing[o.Share] = o.ID
	}
	if o.Status != StatusValid || o.Joined {
		m.open.add(o.Owner, o.ID)
	}
	if o.Status == StatusProcessing && o.Share != "" {
		m.waiting.add(o.Share, o.ID)
	}
	if o.Status != StatusInvalid {
		m.listed.add(o.AccountID, o.ID)
	}
	for _, key := range authorizedBy(o) {
		if m.authorized[key] == nil {
			m.authorized[key] = map[string]time.Time{}
		}
		m.authorized[key][o.ID] = o.Expires
	}
}

// forget removes an order and what putOrder derived from it.
func (m *Memory) forget(o Order) {
	delete(m.orders, o.ID)
	delete(m.due, o.ID)
	if m.issuing[o.Share] == o.ID {
		delete(m.issuing, o.Share)
	}
	m.open.remove(o.Owner, o.ID)
	m.waiting.remove(o.Share, o.ID)
	m.listed.remove(o.AccountID, o.ID)
	for _, key := range authorizedBy(o) {
		delete(m.authorized[key], o.ID)
		if len(m.authorized[key]) == 0 {
			delete(m.authorized, key)
		}
	}
}

func authorizedBy(o Order) (keys []authorizationKey) {
	for _, a := range o.Authorizations {
		if a.Status == StatusValid {
			keys = append(keys, authorizationKey{o.AccountID, a.Name()})
		}
	}
	return keys
}

// Order implements Storage.
func (m *Memory) Order(_ context.Context, id string) (Order, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.orders[id]
	if !ok {
		return Order{}, ErrNotFound
	}
	return copyOrder(o), nil
}

// OrdersByAccount implements Storage.
func (m *Memory) OrdersByAccount(_ context.Context, accountID, after string, limit int) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, ok := m.orders[after]
	if after != "" && (!ok || last.AccountID != accountID) {
		return nil, nil
	}
	newestFirst := func(a, b Order) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID))
	}
	var found []Order
	for id := range m.listed[accountID] {
		if o := m.orders[id]; after == "" || newestFirst(last, o) < 0 {
			found = append(found, o)
		}
	}
	slices.SortFunc(found, newestFirst)
	var ids []string
	for _, o := range found[:min(len(found), limit)] {
		ids = append(ids, o.ID)
	}
	return ids, nil
}

// UpdateOrder implements Storage.
func (m *Memory) UpdateOrder(_ context.Context, o Order) error { return m.updateOrder(o, nil) }

// CompleteOrder implements Storage.
func (m *Memory) CompleteOrder(_ context.Context, o Order, c Certificate) error {
	return m.updateOrder(o, &c)
}

// updateOrder updates an order, and stores a certificate if it is not nil.
func (m *Memory) updateOrder(o Order, c *Certificate) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, ok := m.orders[o.ID]
	if !ok {
		return ErrNotFound
	}
	if old.Version != o.Version {
		return ErrStale
	}
	if by := m.issuing[o.Share]; o.Issuing && by != "" && by != o.ID {
		return ErrTurn
	}
	if c != nil {
		if _, ok := m.certificates[c.ID]; ok {
			return ErrExists
		}
		m.putCertificate(*c, o.Share)
	}
	o.AccountID, o.Owner, o.Identifiers, o.Replaces, o.CreatedAt = old.AccountID, old.Owner, old.Identifiers, old.Replaces, old.CreatedAt
	if old.LeaseOwner != "" && old.LeaseOwner == o.LeaseOwner && old.LeaseUntil.After(o.LeaseUntil) {
		o.LeaseUntil = old.LeaseUntil
	}
	o.Version++
	m.putOrder(o)
	if o.Status == StatusInvalid {
		m.giveUp(o)
	}
	if old.Issuing && (!o.Issuing || o.Share != old.Share) {
		m.callNext(old.Share, o.ID)
	}
	return nil
}

// callNext makes the orders due that wait until the one with the ID ended its turn.
func (m *Memory) callNext(share, ended string) {
	for _, id := range slices.Collect(maps.Keys(m.waiting[share])) { // putOrder changes the set
		if id == ended {
			continue
		}
		o := m.orders[id]
		o.DueAt = o.CreatedAt
		o.Version++
		m.putOrder(o)
	}
}

// deleteOrder deletes an order as Purge does.
func (m *Memory) deleteOrder(o Order) {
	m.forget(o)
	if o.Status != StatusValid {
		m.giveUp(o)
	}
	if o.Issuing {
		m.callNext(o.Share, o.ID)
	}
}

// ClaimOrders implements Storage.
func (m *Memory) ClaimOrders(_ context.Context, owner string, now, until time.Time, limit int) ([]Order, error) {
	if owner == "" {
		return nil, errors.New("claim orders: the lease's owner is empty")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	turns := map[string]int{} // by owner of the account; at first the leases
	var due []Order
	for id := range m.due {
		switch o := m.orders[id]; {
		case o.LeaseUntil.After(now):
			turns[o.Owner]++
		case !o.DueAt.After(now):
			due = append(due, o)
		}
	}
	slices.SortFunc(due, func(a, b Order) int { return cmp.Or(a.DueAt.Compare(b.DueAt), cmp.Compare(a.ID, b.ID)) })
	turn := map[string]int{}
	for _, o := range due {
		turn[o.ID] = turns[o.Owner]
		turns[o.Owner]++
	}
	slices.SortStableFunc(due, func(a, b Order) int { return cmp.Compare(turn[a.ID], turn[b.ID]) })
	due = due[:min(len(due), limit)]
	for i := range due {
		due[i].LeaseOwner, due[i].LeaseUntil = owner, until
		due[i].Version++
		m.putOrder(due[i])
		due[i] = copyOrder(due[i])
	}
	return due, nil
}

// ExtendOrder implements Storage.
func (m *Memory) ExtendOrder(_ context.Context, id, owner string, until time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.orders[id]
	if !ok || o.LeaseOwner != owner || owner == "" {
		return ErrStale
	}
	o.LeaseUntil = until
	m.orders[id] = o
	return nil
}

// OrdersByShare implements Storage.
func (m *Memory) OrdersByShare(_ context.Context, share string, limit int) (issuing string, others []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	issuing = m.issuing[share]
	for id := range m.waiting[share] {
		if id != issuing && len(others) < limit {
			others = append(others, id)
		}
	}
	return issuing, others, nil
}

// NextOrder implements Storage.
func (m *Memory) NextOrder(_ context.Context, now time.Time) (time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var first time.Time
	for id := range m.due {
		o := m.orders[id]
		at := o.DueAt
		if o.LeaseUntil.After(now) && o.LeaseUntil.After(at) {
			at = o.LeaseUntil
		}
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	if first.IsZero() {
		return first, ErrNotFound
	}
	return first, nil
}

// Authorized implements Storage.
func (m *Memory) Authorized(_ context.Context, accountID string, identifiers []string, now time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range identifiers {
		held := false
		for _, expires := range m.authorized[authorizationKey{accountID, name}] {
			held = held || expires.After(now)
		}
		if !held {
			return false, nil
		}
	}
	return len(identifiers) > 0, nil
}

// endedBefore returns the keys of at most limit records that ended before a time, and
// reports whether there may be more.
func endedBefore[T any](all iter.Seq2[string, T], end func(T) time.Time, before time.Time, limit int) (ids []string, more bool) {
	for id, record := range all {
		if len(ids) == limit {
			return ids, true
		}
		if end(record).Before(before) {
			ids = append(ids, id)
		}
	}
	return ids, false
}
