package challenge

import (
	"slices"
	"sync"
	"time"
)

const (
	keptFor  = 48 * time.Hour // no instance resumes an order after half of this time
	mostKept = 4096           // orders
)

// OrderAnswer is the answer to a challenge of one authorization of an order.
type OrderAnswer struct {
	Answer
	Type          string // of the challenge
	Authorization string // URL
	Token         string
	Turn          string // the solver's exclusive key; empty if it has none
}

// Kept stores in memory the answers of orders that will be continued. The CA may
// still be validating. A 404 would make the order invalid and count as a failed
// validation. The zero value is empty and ready to use, concurrently.
type Kept struct {
	mu     sync.Mutex
	orders map[string]keptOrder // by URL; guarded by mu
}

type keptOrder struct {
	answers []OrderAnswer
	expiry  *time.Timer
}

// Put stores answers until the order is taken or expires. It returns the answers
// that the caller must remove: they are stored already or there is no room.
func (k *Kept) Put(order string, answers []OrderAnswer) (surplus []OrderAnswer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o, ok := k.orders[order]
	if len(answers) == 0 || !ok && len(k.orders) >= mostKept {
		return answers
	}
	for _, a := range answers {
		if slices.ContainsFunc(o.answers, func(other OrderAnswer) bool {
			return other.Authorization == a.Authorization && other.Token == a.Token
		}) {
			surplus = append(surplus, a)
		} else {
			o.answers = append(o.answers, a)
		}
	}
	if ok {
		o.expiry.Stop()
	}
	o.expiry = time.AfterFunc(keptFor, func() { RemoveAll(k.Take(order)) })
	if k.orders == nil {
		k.orders = map[string]keptOrder{}
	}
	k.orders[order] = o
	return surplus
}

// Take returns the answers of an order, which the caller removes.
func (k *Kept) Take(order string) []OrderAnswer {
	k.mu.Lock()
	defer k.mu.Unlock()
	o, ok := k.orders[order]
	if !ok {
		return nil
	}
	o.expiry.Stop()
	delete(k.orders, order)
	return o.answers
}

// TakeTurn returns the answers with an exclusive key, which the caller removes. They
// would hide another answer with the same key.
func (k *Kept) TakeTurn(key string) (answers []OrderAnswer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for url, o := range k.orders {
		var left []OrderAnswer
		for _, a := range o.answers {
			if a.Turn == key {
				answers = append(answers, a)
			} else {
				left = append(left, a)
			}
		}
		o.answers = left
		k.orders[url] = o
	}
	return answers
}

// Close removes all answers. If other instances may work on the same orders, it
// leaves answers that are not in memory. Another instance has published the same file
// or record, and removes it when it has finished the order.
func (k *Kept) Close(shared bool) {
	k.mu.Lock()
	var all []OrderAnswer
	for _, o := range k.orders {
		o.expiry.Stop()
		all = append(all, o.answers...)
	}
	k.orders = nil
	k.mu.Unlock()
	if shared {
		all = slices.DeleteFunc(all, func(a OrderAnswer) bool { return a.Fetched() == nil })
	}
	RemoveAll(all)
}
