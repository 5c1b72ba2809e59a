package peers_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/peers"
)

// pooler forwards connections to a server as PgBouncer does in transaction mode. LISTEN
// succeeds, and no notification ever arrives.
func pooler(t testing.TB, server string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // closed
			}
			behind, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			serving.Go(func() {
				defer behind.Close()
				_, _ = io.Copy(behind, client)
			})
			serving.Go(func() {
				defer client.Close()
				withoutNotifications(client, behind)
			})
		}
	})
	return l.Addr().String()
}

// withoutNotifications copies the server's messages except notifications. A message has
// a letter, a length that includes itself, and the content.
func withoutNotifications(to io.Writer, from io.Reader) {
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		rest := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(from, rest); err != nil {
			return
		}
		if head[0] == 'A' { // NotificationResponse
			continue
		}
		if _, err := to.Write(append(head, rest...)); err != nil {
			return
		}
	}
}

// An instance behind a pooler that delivers nothing reports the problem, and delays
// the others at most once (X18).
func testDeaf(t *testing.T, server *pgtest.Server) {
	id := identity(t)
	direct := server.Database(t)
	behind, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	behind.Host = pooler(t, behind.Host)
	behind.RawQuery = "sslmode=disable"
	quick := func(c *peers.Config) { c.Heartbeat = 200 * time.Millisecond }
	deaf := begin(t, behind.String(), id, quick)
	one := start(t, direct, id, quick)
	one.knows(t, 1) // the others receive its messages, and it receives none
	// A connection that opens late begins its time to receive something once more.
	watch.Until(t, "it notices", func() bool {
		return strings.Contains(deaf.log.String(), "hears neither itself nor others") &&
			strings.Contains(deaf.Status().Problem, "PgBouncer") && !deaf.IsReceiving()
	})
	if s := one.Status(); s.Problem != "" {
		t.Errorf("the other one's problem: %q", s.Problem)
	}
	if took, _ := deaf.share(t, http01("theirs")); took >= 2*peers.ShareTimeout {
		t.Errorf("the deaf one waits %v", took)
	}
	watch.Until(t, "the other one answers", func() bool { return one.answers("theirs") })
	one.share(t, http01("first"))
	if took, _ := one.share(t, http01("second")); took >= peers.ShareTimeout {
		t.Errorf("the deaf one is waited for again: %v", took)
	}
}
