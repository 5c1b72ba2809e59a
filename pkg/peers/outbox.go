package peers

import (
	"encoding/json"
	"sync"
)

// maxWaiting is how many items may wait to be sent. While the database is away
// they do not wait, they are dropped; this is for a slow one.
const maxWaiting = 16384

// outbox holds what is to be sent, in its order. While one message is on its
// way, what comes meanwhile gathers for the next.
type outbox struct {
	more chan struct{} // holds one when there may be something

	mu    sync.Mutex
	items []json.RawMessage // guarded by mu
}

// add reports whether there was room.
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

// take returns as many as fit into a message.
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
		o.items = nil // and the memory of a rush with it
	}
	return taken
}
