package rest

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/acmeproxy/acmeproxy/pkg/fair"
)

// The number of requests that take long and may be under way: a client that
// wants more at once is told to wait, and no number of clients can hold all
// memory. The last number is how many a client can have when the others have all
// of the second; there is room for as many again.
var (
	pollLimits   = fair.Limits{Total: 4096, PerClient: 128, Reserve: 4096, Own: 8}
	bodyLimits   = fair.Limits{Total: 1024, PerClient: 64, Reserve: 1024, Own: 8}
	readLimits   = fair.Limits{Total: 128, PerClient: 16, Reserve: 128, Own: 2} // of bodyLimits; the others wait
	streamLimits = fair.Limits{Total: 512, PerClient: 32, Reserve: 512, Own: 4}
)

// A stranger may take Config.StrangerBody to send a body, and then StrangerAnswer
// to read the answer. So these requests are counted by connection, of which
// connlimit always has one for a newcomer.
const strangersOfConn = 2 // in progress; of enrolments one, which are the only ones with bodies

// bodyWait is how long a client's request waits until its body may be read.
const bodyWait = 10 * time.Second

const busySeconds = 5 // Retry-After

// inFlight counts requests of one kind.
type inFlight struct {
	what      string // they are, in the plural
	perClient int
	places    *fair.Places
}

func newInFlight(what string, l fair.Limits) *inFlight {
	return &inFlight{what: what, perClient: l.PerClient, places: fair.New(l)}
}

// begin counts one more of a client's until end is called, or refuses.
func (n *inFlight) begin(clientID string) (end func(), err error) {
	end, ok := n.places.Try(clientID)
	switch {
	case ok:
		return end, nil
	case n.places.Held(clientID) >= n.perClient:
		return nil, retryLater(http.StatusTooManyRequests, fmt.Sprintf("this client has %d %s under way, which is all it may have; try again when one has ended", n.perClient, n.what))
	}
	return nil, retryLater(http.StatusServiceUnavailable, fmt.Sprintf("too many %s are under way; try again soon", n.what))
}

func retryLater(status int, message string) error {
	return huma.ErrorWithHeaders(huma.NewError(status, message), http.Header{"Retry-After": {strconv.Itoa(busySeconds)}})
}
