package proxy

import (
	"cmp"
	"time"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/connlimit"
)

// Limits bounds what the other ends of connections occupy, and for how long. A
// field that is zero takes its default.
type Limits struct {
	// Connections is the number of connections of each open port. The default is
	// 4,096, or fewer where the process may not open that many files.
	Connections int
	// Port80Header and APIHeader bound the time until a connection has sent the
	// header of its request; the defaults are 5 s and 10 s. A body may take three
	// times as long; an answer, and an idle connection, six times.
	Port80Header, APIHeader time.Duration
	// StrangerBody and StrangerAnswer are those of [rest.Config].
	StrangerBody, StrangerAnswer time.Duration
	// FallbackGrace and FallbackLongest are Grace and Longest of
	// [fallback.BackendConfig].
	FallbackGrace, FallbackLongest time.Duration
}

const (
	maxConns    = 4096 // of each open port
	connsShare  = 8    // one address may have an eighth of them
	http2Stream = 32   // requests at once on a connection

	// What a client may send to the API before its handshake is completed, and
	// then without an answer until it has authenticated. The first is a hello and
	// a few certificates; the second is a window of HTTP/2 and the headers to it.
	maxHandshake  = 16 << 10
	maxUnanswered = http2Window + 16<<10
	http2Window   = 64 << 10 // bytes of bodies on a connection that were not read yet
)

// withDefaults sets what is not set. Where the process may not have as many
// files as there may be connections, the two ports leave a third of them for all
// else.
func (l Limits) withDefaults() Limits {
	if l.Connections == 0 {
		l.Connections = maxConns
		var files unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil {
			l.Connections = int(min(uint64(l.Connections), max(files.Cur/3, 4*connsShare)))
		}
	}
	l.Port80Header = cmp.Or(l.Port80Header, 5*time.Second)
	l.APIHeader = cmp.Or(l.APIHeader, 10*time.Second)
	return l
}

// port80 gives half of the connections to those that had no answer yet.
func (l Limits) port80(writeTimeout time.Duration) connlimit.Config {
	half := connlimit.Share{Total: l.Connections / 2, PerParty: l.Connections / 2 / connsShare}
	return connlimit.Config{New: half, Completed: half, WriteTimeout: writeTimeout}
}

// exchanges returns how many requests port 80 may pass on to a backend at once:
// half of the connections with an answer, so that challenges always find one.
func (l Limits) exchanges() int { return l.Connections / 4 }

// api gives half of the connections to authenticated clients, an eighth of those
// to one client, which is enough for its long polls over HTTP/1.1. It gives few
// to strangers whose handshake is completed: those can cost the most memory.
func (l Limits) api() connlimit.Config {
	total := l.Connections
	return connlimit.Config{
		New:       connlimit.Share{Total: total * 3 / 8, PerParty: total / connsShare},
		Completed: connlimit.Share{Total: total / 16, PerParty: total / 16 / 2},
		Known:     connlimit.Share{Total: total / 2, PerParty: total / 2 / connsShare},
		TLS:       true, MaxNew: maxHandshake, MaxUnanswered: maxUnanswered,
	}
}
