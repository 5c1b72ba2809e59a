package issuer

import (
	"slices"
	"sync"
	"time"
)

const (
	keptFor  = 48 * time.Hour // no instance resumes an order after half of that
	mostKept = 4096           // orders
)

// kept holds the answers of orders that will be continued. The CA may still be
// validating: a 404 of ours would make the order invalid, and count as a failed
// validation.
type kept struct {
	mu     sync.Mutex
	orders map[string]keptOrder // by URL; guarded by mu
}

type keptOrder struct {
	answers []presented
	expiry  *time.Timer
}

// put keeps answers until the order is taken or expires. It returns those that
// are not needed, because they are kept already or there is no room.
func (k *kept) put(order string, answers []presented) (surplus []presented) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o, ok := k.orders[order]
	if len(answers) == 0 || !ok && len(k.orders) >= mostKept {
		return answers
	}
	for _, p := range answers {
		if slices.ContainsFunc(o.answers, func(other presented) bool { return other.url == p.url && other.token == p.token }) {
			surplus = append(surplus, p)
		} else {
			o.answers = append(o.answers, p)
		}
	}
	if ok {
		o.expiry.Stop()
	}
	o.expiry = time.AfterFunc(keptFor, func() { remove(k.take(order)) })
	if k.orders == nil {
		k.orders = map[string]keptOrder{}
	}
	k.orders[order] = o
	return surplus
}

// take returns the answers of an order, which the caller removes.
func (k *kept) take(order string) []presented {
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

// takeTurn returns the answers that would get into the way of another one with
// the same key.
func (k *kept) takeTurn(key string) (answers []presented) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for url, o := range k.orders {
		var left []presented
		for _, p := range o.answers {
			if p.turn == key {
				answers = append(answers, p)
			} else {
				left = append(left, p)
			}
		}
		o.answers = left
		k.orders[url] = o
	}
	return answers
}

// close removes all answers. Where other instances may work on the same orders, it
// leaves those that are not in memory: another instance has put the same file or
// record in place, and removes it when it has finished the order.
func (k *kept) close(shared bool) {
	k.mu.Lock()
	var all []presented
	for _, o := range k.orders {
		o.expiry.Stop()
		all = append(all, o.answers...)
	}
	k.orders = nil
	k.mu.Unlock()
	if shared {
		all = slices.DeleteFunc(all, func(p presented) bool { return p.Fetched() == nil })
	}
	remove(all)
}
