package rest

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

// How many requests that take long may be under way: a client that wants more
// at once is told to wait, and no number of clients can hold all memory.
const (
	pollsOfClient   = 128
	pollsOfAll      = 4096
	streamsOfClient = 32
	streamsOfAll    = 512

	busySeconds = 5 // Retry-After
)

// inFlight counts requests of one kind.
type inFlight struct {
	what      string // they are, in the plural
	perClient int
	total     int

	mu       sync.Mutex // guards what follows
	all      int
	byClient map[string]int // by client id; no zeros
}

func newInFlight(what string, perClient, total int) *inFlight {
	return &inFlight{what: what, perClient: perClient, total: total, byClient: make(map[string]int)}
}

// begin counts one more of a client's until end is called, or refuses.
func (n *inFlight) begin(clientID string) (end func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.byClient[clientID] >= n.perClient:
		return nil, later(http.StatusTooManyRequests, fmt.Sprintf("this client has %d %s under way, which is all it may have; try again when one has ended", n.perClient, n.what))
	case n.all >= n.total:
		return nil, later(http.StatusServiceUnavailable, fmt.Sprintf("too many %s are under way; try again soon", n.what))
	}
	n.all++
	n.byClient[clientID]++
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.all--
		if n.byClient[clientID]--; n.byClient[clientID] == 0 {
			delete(n.byClient, clientID)
		}
	}, nil
}

func later(status int, message string) error {
	return huma.ErrorWithHeaders(huma.NewError(status, message), http.Header{"Retry-After": {strconv.Itoa(busySeconds)}})
}
