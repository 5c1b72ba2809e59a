package tunnel

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/connlimit"
)

const (
	// MaxNames is the maximum number of names of a stream.
	MaxNames = 1000
	// MaxStreams is the maximum number of streams of a client.
	MaxStreams = 8
	// MaxWait is how long Ask waits for hosts. A CA waits ten seconds at least.
	MaxWait = 8 * time.Second
	// maxQueued is the maximum number of questions that a stream has not sent yet.
	maxQueued = 64
)

// Config holds the limits of a Hub and the way to other instances.
type Config struct {
	// Elsewhere, if not nil, asks the hosts whose stream another instance holds. It
	// returns at once if there is none for the name.
	Elsewhere func(ctx context.Context, name, token string) (keyAuthorization string, ok bool)
	// Changed, if not nil, is called when another set of names has a stream.
	Changed func()
	// Places is the maximum number of concurrent calls of Ask that wait for a host.
	// One address may have at most as many of them as are free. If 0, it is 128.
	Places int
	// Wait is the maximum duration of Ask. If 0, it is MaxWait.
	Wait time.Duration
}

// Hub connects questions with streams. It is safe for concurrent use.
type Hub struct {
	cfg    Config
	places *connlimit.Places

	mu      sync.Mutex // guards the fields below
	streams map[string][]*Stream
	open    map[string]int      // streams by client
	flights map[subject]*flight // questions without an answer
	asked   map[string]*flight  // by ID of the question
}

// New returns a hub without streams.
func New(cfg Config) *Hub {
	cfg.Places, cfg.Wait = cmp.Or(cfg.Places, 128), cmp.Or(cfg.Wait, MaxWait)
	return &Hub{
		cfg: cfg, places: connlimit.NewPlaces(cfg.Places),
		streams: map[string][]*Stream{}, open: map[string]int{},
		flights: map[subject]*flight{}, asked: map[string]*flight{},
	}
}

// Names returns the names that have a stream, sorted.
func (h *Hub) Names() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.streams))
}

// has reports whether a name has a stream.
func (h *Hub) has(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.streams[name]) > 0
}
