package peers_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/peers"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

// instance is the part of a proxy that serves answers to challenges.
type instance struct {
	*peers.Peers
	name string
	http *responder.Responder
	tls  *responder.TLSALPN
	log  *watch.Log
	due  atomic.Int32
	news chan string
	stop func() // stops Run and waits for it; may be called twice
}

// start starts an instance and waits until it receives its own messages.
func start(t testing.TB, url string, id *age.X25519Identity, change ...func(*peers.Config)) *instance {
	t.Helper()
	i := begin(t, url, id, change...)
	watch.Until(t, "it receives its own messages", i.IsReceiving)
	return i
}

func begin(t testing.TB, url string, id *age.X25519Identity, change ...func(*peers.Config)) *instance {
	t.Helper()
	s, err := store.Open(context.Background(), store.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	i := &instance{
		name: "dmz/" + rand.Text(), http: responder.New(), tls: responder.NewTLSALPN(),
		log: &watch.Log{}, news: make(chan string, 16),
	}
	cfg := peers.Config{
		Bus: s, Identity: id, Self: i.name, Local: challenge.Memory{HTTP01: i.http, TLSALPN: i.tls},
		Due:    func() { i.due.Add(1) },
		News:   func(id string) { i.news <- id },
		Logger: slog.New(slog.NewTextHandler(i.log, nil)),
	}
	for _, c := range change {
		c(&cfg)
	}
	if i.Peers, err = peers.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { i.Run(ctx) })
	i.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		s.Close()
	})
	t.Cleanup(func() {
		i.stop()
		if t.Failed() {
			t.Logf("%s:\n%s", i.name, i.log.String())
		}
	})
	return i
}

func identity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// knows waits until i knows n other instances.
func (i *instance) knows(t testing.TB, n int) {
	t.Helper()
	watch.Until(t, "the others are heard", func() bool { return len(i.Status().Others) == n })
}

// wantAcknowledged fails the test if an instance did not acknowledge in time.
func (i *instance) wantAcknowledged(t testing.TB) {
	t.Helper()
	if strings.Contains(i.log.String(), "does not acknowledge") {
		t.Error("another instance did not acknowledge in time")
	}
}

const host = "web1.example.com"

func http01(token string) peers.Answer {
	return peers.Answer{Type: acme.HTTP01, Name: host, Token: token, KeyAuthorization: token + ".thumbprint"}
}

// answers reports whether the instance serves the answer for token to a CA.
func (i *instance) answers(token string) bool {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "http://"+host+responder.Prefix+token, nil)
	i.http.ServeHTTP(w, r)
	return w.Code == http.StatusOK && w.Body.String() == token+".thumbprint"
}

// share calls Share and returns how long it took.
func (i *instance) share(t testing.TB, a peers.Answer) (took time.Duration, withdraw func()) {
	t.Helper()
	began := time.Now()
	withdraw = i.Share(t.Context(), a, nil)
	return time.Since(began), withdraw
}

// The subtests share a server and have a database each.
func TestPeers(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	for name, test := range map[string]func(*testing.T, *pgtest.Server){
		"Share": testShare, "Alone": testShareAlone, "Newcomer": testShareWithNewcomer,
		"Killed": testKilled, "Forgotten": testForgotten, "Strangers": testStrangers, "Deaf": testDeaf,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, server)
		})
	}
}

// When Share returns, the others serve the answer. They report the CA's fetch, and
// remove the answer when it is withdrawn (X18). News wakes the others.
func testShare(t *testing.T, server *pgtest.Server) {
	url, id := server.Database(t), identity(t)
	one, two, three := start(t, url, id), start(t, url, id), start(t, url, id)
	one.knows(t, 2)
	seen := make(chan struct{})
	withdraw := one.Share(t.Context(), http01("token"), sync.OnceFunc(func() { close(seen) }))
	if !two.answers("token") || !three.answers("token") {
		t.Error("not all answer")
	}
	<-seen
	withdrawTLS := one.Share(t.Context(), peers.Answer{Type: acme.TLSALPN01, Name: "192.0.2.1", KeyAuthorization: "token.thumbprint"}, nil)
	if two.tls.Len() != 1 || three.tls.Len() != 1 {
		t.Errorf("TLS-ALPN-01: %d and %d answers", two.tls.Len(), three.tls.Len())
	}
	withdraw()
	withdrawTLS()
	withdraw()
	watch.Until(t, "all is withdrawn", func() bool {
		return two.http.Len()+three.http.Len()+two.tls.Len()+three.tls.Len() == 0
	})

	one.NotifyDue()
	one.NotifyNews("certificate")
	if got := <-two.news + <-three.news; got != "certificatecertificate" || two.due.Load() == 0 || three.due.Load() == 0 || one.due.Load() > 0 {
		t.Errorf("news of %s; due: %d, %d, %d", got, one.due.Load(), two.due.Load(), three.due.Load())
	}

	// A bye removes the remaining answers of its sender, and Share does not wait for it.
	three.Share(t.Context(), http01("left"), nil)
	three.stop()
	one.knows(t, 1)
	watch.Until(t, "the answers of the stopped instance are gone", func() bool { return one.http.Len()+two.http.Len() == 0 })
	one.Share(t.Context(), http01("later"), nil)
	one.wantAcknowledged(t)
}

// Share returns at once for an invalid answer, and without other instances.
func testShareAlone(t *testing.T, server *pgtest.Server) {
	var none *peers.Peers
	none.Share(t.Context(), http01("token"), nil)()
	none.NotifyDue()
	none.NotifyNews("x")
	url, id := server.Database(t), identity(t)
	one := start(t, url, id)
	if took, _ := one.share(t, http01("token")); took >= peers.ShareTimeout {
		t.Errorf("alone it took %v", took)
	}
	strange := http01("token")
	strange.KeyAuthorization = "a b\nc"
	one.Share(t.Context(), strange, nil)()
	if log := one.log.String(); !strings.Contains(log, "is not shared") || strings.Contains(log, host) {
		t.Error(log)
	}
}

// An instance that starts later serves the current answers of the others (X18).
func testShareWithNewcomer(t *testing.T, server *pgtest.Server) {
	url, id := server.Database(t), identity(t)
	one := start(t, url, id)
	_, withdraw := one.share(t, http01("token"))
	two := start(t, url, id)
	watch.Until(t, "the newcomer answers", func() bool { return two.answers("token") })
	one.knows(t, 1)
	if _, withdraw := one.share(t, http01("next")); !two.answers("next") {
		t.Error("the newcomer was not waited for")
	} else {
		withdraw()
	}
	withdraw()
	watch.Until(t, "it is withdrawn", func() bool { return two.http.Len() == 0 })
}

// A broken connection is reopened, and messages of the meantime are sent again (X18).
func TestReconnect(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	url, id := server.Database(t), identity(t)
	one, two := start(t, url, id), start(t, url, id)
	one.knows(t, 1)
	for _, token := range []string{"a", "b", "c"} {
		server.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()")
		_, withdraw := one.share(t, http01(token)) // perhaps before they are back
		watch.Until(t, "the other one answers", func() bool { return two.answers(token) })
		watch.Until(t, "both receive messages", func() bool { return one.IsReceiving() && two.IsReceiving() })
		withdraw()
		watch.Until(t, "it is withdrawn", func() bool { return two.http.Len() == 0 })
	}
	server.Stop()
	watch.Until(t, "the problem is reported", func() bool { return strings.Contains(one.Status().Problem, "other instances are not heard: listen: ") })
	_, withdraw := one.share(t, http01("away"))
	defer withdraw()
	if err := server.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	watch.Until(t, "the other one answers", func() bool { return two.answers("away") })
	watch.Until(t, "the problem is gone", func() bool { return one.Status().Problem == "" })
}

// The other instance is a process that is killed while it has an order. Share waits
// for it once, and its answers expire (X18).
func testKilled(t *testing.T, server *pgtest.Server) {
	url, id := server.Database(t), identity(t)
	one := start(t, url, id, func(c *peers.Config) { c.Life = time.Second })
	kill := process(t, url, id)
	one.knows(t, 1)
	one.Share(t.Context(), http01("first"), nil)
	one.wantAcknowledged(t)
	watch.Until(t, "its answer is here", func() bool { return one.answers("theirs") })
	kill()
	for i, limit := range []time.Duration{2 * peers.ShareTimeout, peers.ShareTimeout} {
		if took, _ := one.share(t, http01("next")); took >= limit {
			t.Errorf("share %d after the kill took %v", i, took)
		}
	}
	if others := one.Status().Others; len(others) != 1 || !others[0].Silent || !strings.Contains(one.log.String(), "does not acknowledge") {
		t.Errorf("%v\n%s", others, one.log)
	}
	watch.Until(t, "its answer is gone", func() bool { return one.http.Len() == 0 })
}

// An instance without heartbeats is forgotten.
func testForgotten(t *testing.T, server *pgtest.Server) {
	url, id := server.Database(t), identity(t)
	one := start(t, url, id, func(c *peers.Config) { c.Heartbeat = 100 * time.Millisecond })
	kill := process(t, url, id)
	one.knows(t, 1)
	kill()
	one.knows(t, 0)
	one.Share(t.Context(), http01("next"), nil)
	one.wantAcknowledged(t)
}

// process starts an instance as a process that can be killed. It runs this test's
// program.
func process(t testing.TB, url string, id *age.X25519Identity) (kill func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcess$")
	cmd.Env = append(os.Environ(), "PEERS_TEST_URL="+url, "PEERS_TEST_IDENTITY="+id.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // ended by a signal
	})
	t.Cleanup(kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return kill
}

func TestProcess(t *testing.T) {
	t.Parallel()
	url := os.Getenv("PEERS_TEST_URL")
	if url == "" {
		return // not started by process
	}
	id, err := age.ParseX25519Identity(os.Getenv("PEERS_TEST_IDENTITY"))
	if err != nil {
		t.Fatal(err)
	}
	i := start(t, url, id)
	defer i.Share(t.Context(), http01("theirs"), nil)()
	_, _ = io.WriteString(os.Stdout, "ready\n")
	select {} // until it is killed
}

// Texts of others in the channel have no effect, and neither have copies of an
// instance's messages. The server sees neither names nor tokens.
func testStrangers(t *testing.T, server *pgtest.Server) {
	url, id := server.Database(t), identity(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "LISTEN acmeproxy"); err != nil {
		t.Fatal(err)
	}
	one, two := start(t, url, id), start(t, url, id)
	one.knows(t, 1)
	_, withdraw := one.share(t, http01("tokentokentoken"))
	withdraw()
	watch.Until(t, "it is withdrawn", func() bool { return two.http.Len() == 0 })
	copies := []string{}
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		n, err := conn.WaitForNotification(ctx)
		cancel()
		if err != nil {
			break
		}
		if strings.Contains(n.Payload, "token") || strings.Contains(n.Payload, "example") {
			t.Errorf("the server sees %s", n.Payload)
		}
		copies = append(copies, n.Payload)
	}
	if len(copies) < 3 {
		t.Fatalf("%d messages", len(copies))
	}
	copies = append(copies, "", "x", "AAAA", strings.Repeat("A", peers.MaxText), strings.Repeat("é", 100))
	for _, text := range copies {
		if _, err := conn.Exec(t.Context(), "SELECT pg_notify('acmeproxy', $1)", text); err != nil {
			t.Fatal(err)
		}
	}
	start(t, url, identity(t)) // another proxy's, by mistake
	_, withdraw = one.share(t, http01("next"))
	if !two.answers("next") {
		t.Error("the other one does not answer")
	}
	one.wantAcknowledged(t)
	withdraw()
	watch.Until(t, "it is withdrawn", func() bool { return !two.answers("next") })
	if n := len(one.Status().Others); n != 1 || strings.Count(one.log.String(), "is not from an instance") != 1 {
		t.Errorf("%d others\n%s", n, one.log)
	}
}
