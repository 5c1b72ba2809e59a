package rest

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/acmeproxy/acmeproxy/pkg/fair"
)

// The limits of long requests in progress. A client that exceeds its limit gets a
// Retry-After, and all clients together cannot use all memory. Own is the number that
// a client can have when the others have taken all of Total.
var (
	pollLimits   = fair.Limits{Total: 4096, PerClient: 128, Reserve: 4096, Own: 8}
	bodyLimits   = fair.Limits{Total: 1024, PerClient: 64, Reserve: 1024, Own: 8}
	readLimits   = fair.Limits{Total: 128, PerClient: 16, Reserve: 128, Own: 2} // of those within bodyLimits; the others wait
	streamLimits = fair.Limits{Total: 512, PerClient: 32, Reserve: 512, Own: 4}
)

// strangersOfConn is the maximum number of requests of unknown callers in progress on
// one connection. For enrolments, the only ones with bodies, it is one. A stranger may
// take Config.StrangerBody to send a body, and then StrangerAnswer to read the answer.
// So these requests are counted by connection, and connlimit always accepts a new one.
const strangersOfConn = 2

// bodyWait is how long a client's request waits until its body may be read.
const bodyWait = 10 * time.Second

const busySeconds = 5 // Retry-After

// inFlight counts requests of one kind.
type inFlight struct {
	what      string // name of the requests, in the plural
	perClient int
	places    *fair.Places
}

func newInFlight(what string, l fair.Limits) *inFlight {
	return &inFlight{what: what, perClient: l.PerClient, places: fair.New(l)}
}

// begin counts a request of a client until end is called. The error refuses it.
func (n *inFlight) begin(clientID string) (end func(), err error) {
	end, ok := n.places.Try(clientID)
	switch {
	case ok:
		return end, nil
	case n.places.Held(clientID) >= n.perClient:
		return nil, retryLater(http.StatusTooManyRequests, fmt.Sprintf("this client has %d %s in progress, which is its limit; try again when one has ended", n.perClient, n.what))
	}
	return nil, retryLater(http.StatusServiceUnavailable, fmt.Sprintf("too many %s are in progress; try again soon", n.what))
}

func retryLater(status int, message string) error {
	return huma.ErrorWithHeaders(huma.NewError(status, message), http.Header{"Retry-After": {strconv.Itoa(busySeconds)}})
}
