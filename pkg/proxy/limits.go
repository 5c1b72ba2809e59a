package proxy

import (
	"cmp"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/connlimit"
)

// Limits holds the limits on connections and their timeouts. A field that is zero
// has its default.
type Limits struct {
	// Connections is the number of connections of each open port. The default is
	// 4,096, or fewer if the process may not open that many files.
	Connections int
	// Port80Header and APIHeader limit the time until a connection has sent the
	// header of its request. The defaults are 5 s and 10 s. A body may take three
	// times as long, an answer and an idle connection six times.
	Port80Header, APIHeader time.Duration
	// StrangerBody and StrangerAnswer have the meaning of those in [rest.Config].
	StrangerBody, StrangerAnswer time.Duration
	// FallbackGrace and FallbackLongest set Grace and Longest of
	// [fallback.BackendConfig].
	FallbackGrace, FallbackLongest time.Duration
}

const (
	maxConns    = 4096 // of each open port
	connsShare  = 8    // one address may have an eighth of them
	http2Stream = 32   // requests at once on a connection

	// Bytes that a client may send to the API before its handshake is complete, and
	// after it, without an answer, until the client has authenticated. The first limit
	// allows a hello and a few certificates, the second an HTTP/2 window with headers.
	maxHandshake  = 16 << 10
	maxUnanswered = http2Window + 16<<10
	http2Window   = 64 << 10 // unread bytes of bodies on a connection
)

// withDefaults returns l with its defaults. If the process may not open enough files
// for all connections, each port gets a third of the files and the rest of the
// process another third.
func (l Limits) withDefaults() Limits {
	if l.Connections == 0 {
		l.Connections = maxConns
		if files, ok := maxFiles(); ok {
			l.Connections = int(min(uint64(l.Connections), max(files/3, 4*connsShare)))
		}
	}
	l.Port80Header = cmp.Or(l.Port80Header, 5*time.Second)
	l.APIHeader = cmp.Or(l.APIHeader, 10*time.Second)
	return l
}

// port80 returns the limits of port 80. It reserves half of the connections for those
// without an answer yet.
func (l Limits) port80(writeTimeout time.Duration) connlimit.Config {
	half := connlimit.Share{Total: l.Connections / 2, PerParty: l.Connections / 2 / connsShare}
	return connlimit.Config{New: half, Completed: half, WriteTimeout: writeTimeout}
}

// exchanges returns how many requests port 80 may pass on to a backend at once:
// half of the connections with an answer, so that challenges always get one.
func (l Limits) exchanges() int { return l.Connections / 4 }

// api returns the limits of the API. Half of the connections are for authenticated
// clients, an eighth of those for one client, which is enough for its long polls over
// HTTP/1.1. Few are for strangers with a complete handshake, because those can use
// the most memory.
func (l Limits) api() connlimit.Config {
	total := l.Connections
	return connlimit.Config{
		New:       connlimit.Share{Total: total * 3 / 8, PerParty: total / connsShare},
		Completed: connlimit.Share{Total: total / 16, PerParty: total / 16 / 2},
		Known:     connlimit.Share{Total: total / 2, PerParty: total / 2 / connsShare},
		TLS:       true, MaxNew: maxHandshake, MaxUnanswered: maxUnanswered,
	}
}
