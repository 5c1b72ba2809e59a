package peers

import (
	"encoding/json"
	"sync"
)

// maxWaiting is the maximum number of items in the outbox. It is for a slow database.
// If the database is unavailable, items are dropped at once.
const maxWaiting = 16384

// outbox holds the items to send, in order. Items that are added while a message is
// sent are collected for the next message.
type outbox struct {
	more chan struct{} // wake-up of the sender; capacity 1

	mu    sync.Mutex
	items []json.RawMessage // guarded by mu
}

// add adds items and reports whether there was room for them.
func (o *outbox) add(its ...item) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, it := range its {
		raw, err := json.Marshal(it)
		if err != nil || len(raw) > maxItems || len(o.items) >= maxWaiting {
			return false
		}
		o.items = append(o.items, raw)
	}
	select {
	case o.more <- struct{}{}:
	default:
	}
	return true
}

// take removes and returns as many items as fit into one message.
func (o *outbox) take() []json.RawMessage {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, size := 0, 0
	for n < len(o.items) && size+len(o.items[n])+1 <= maxItems {
		size += len(o.items[n]) + 1
		n++
	}
	taken := o.items[:n:n]
	if o.items = o.items[n:]; len(o.items) == 0 {
		o.items = nil // frees the memory after a burst
	}
	return taken
}
