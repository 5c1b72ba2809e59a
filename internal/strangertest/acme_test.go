//go:build unix

package strangertest_test

import (
	"context"
	"crypto/tls"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// hostileClient is a client of the ACME door with a credential, which sends what it likes.
type hostileClient struct {
	p          *proxytest.Proxy
	credential admin.ACMEAnswer
	account    *proxytest.ACMEAccount
	base       string
}

func newHostileClient(t *testing.T, p *proxytest.Proxy) *hostileClient {
	t.Helper()
	credential := p.ACMECredential(t, "hostile", proxytest.Grant(clients.ModeACME, "*.hostile.example.com"))
	return &hostileClient{p, credential, p.NewACMEAccount(t, credential), strings.TrimSuffix(credential.Directory, "/directory")}
}

// sign returns a signed request.
func (h *hostileClient) sign(nonce, url, payload string) string {
	header := rawacme.Fields{"alg": "ES256", "nonce": nonce, "url": url, "kid": string(h.account.KID)}
	return string(rawacme.JSON(rawacme.Sign("ES256", h.account.Key, header, payload)))
}

// hostileConn is one of its connections.
type hostileConn struct {
	*hostileClient
	http  *http.Client
	nonce string
}

func (h *hostileClient) conn(t *testing.T) *hostileConn {
	t.Helper()
	c := h.p.ACMEHTTP(t, &tls.Config{InsecureSkipVerify: true})
	c.Transport.(*http.Transport).MaxConnsPerHost = 1
	return &hostileConn{h, c, ""}
}

// send sends a request and returns the answer's status and body.
func (c *hostileConn) send(ctx context.Context, method, url string, body io.Reader) (status int, answer string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/jose+json")
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	if nonce := resp.Header.Get("Replay-Nonce"); nonce != "" {
		c.nonce = nonce
	}
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw), err
}

func (c *hostileConn) newNonce(ctx context.Context) error {
	_, _, err := c.send(ctx, http.MethodHead, c.base+"/new-nonce", http.NoBody)
	return err
}

// newOrder asks for an order of a fresh name.
func (c *hostileConn) newOrder(ctx context.Context) (status int, answer string, err error) {
	payload := fmt.Sprintf(`{"identifiers":[{"type":"dns","value":"n%d.hostile.example.com"}]}`, freshName.Add(1))
	url := c.base + "/new-order"
	return c.send(ctx, http.MethodPost, url, strings.NewReader(c.sign(c.nonce, url, payload)))
}

var freshName atomic.Int64

// rows returns the number of rows of a table in the database of a proxy.
func rows(t *testing.T, p *proxytest.Proxy, from string) (n int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(p.DataDir, "acmeproxy.db")+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM `+from).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// unfinished is the default of acmeserver.Limits.Orders.
const unfinished = 300

// A client that fills its share of orders gets a refusal. Requests for nonces, replays and
// forged requests add no row (X5, X25).
func TestACMEClientCannotFillTheDisk(t *testing.T) {
	p := proxytest.Start(t, proxytest.Options{Change: proxytest.WithACME})
	h := newHostileClient(t, p)
	c, ctx := h.conn(t), t.Context()
	if err := c.newNonce(ctx); err != nil {
		t.Fatal(err)
	}
	created := 0
	for range unfinished + 20 {
		status, answer, err := c.newOrder(ctx)
		switch {
		case err != nil:
			t.Fatal(err)
		case status == http.StatusCreated:
			created++
		case !strings.Contains(answer, "rateLimited") || !strings.Contains(answer, "300 orders that are unfinished, failed or repeated"):
			t.Fatalf("order %d: %d %s", created, status, answer)
		}
	}
	if n := rows(t, p, "acme_orders"); created != unfinished || n != unfinished {
		t.Errorf("%d orders were created, and %d are stored, want %d", created, n, unfinished)
	}
	url := h.base + "/new-order"
	used, nonces := h.sign(c.nonce, url, `{}`), rows(t, p, "acme_nonces")
	for i := range 100 {
		status, answer, err := c.send(ctx, http.MethodPost, url, strings.NewReader(used))
		if err != nil || status != http.StatusBadRequest || i > 0 && !strings.Contains(answer, "badNonce") {
			t.Fatalf("replay %d: %d %s, %v", i, status, answer, err)
		}
		if err := c.newNonce(ctx); err != nil {
			t.Fatal(err)
		}
		forged := strings.Replace(h.sign(c.nonce, url, `{}`), `"payload":"`, `"payload":"e30`, 1)
		if status, answer, err = c.send(ctx, http.MethodPost, url, strings.NewReader(forged)); err != nil || status != http.StatusBadRequest {
			t.Fatalf("forged: %d %s, %v", status, answer, err)
		}
	}
	if n := rows(t, p, "acme_nonces"); n != nonces+1 {
		t.Errorf("%d used nonces are stored, want %d", n, nonces+1)
	}
}

// While a client of the ACME door floods it, replays requests, sends large bodies and reads
// no answers, another client gets its certificates (X5, X25).
func TestHostileACMEClient(t *testing.T) {
	p := proxytest.Start(t, proxytest.Options{Change: proxytest.WithACME})
	h := newHostileClient(t, p)
	good := p.NewACMEAccount(t, p.ACMECredential(t, "good", proxytest.Grant(clients.ModeACME, "*.good.example.com")))
	attack, end := context.WithCancel(t.Context())
	var attacking sync.WaitGroup
	defer attacking.Wait()
	defer end()
	var sent [5]atomic.Int64
	for kind, do := range []func(c *hostileConn){
		func(c *hostileConn) { c.newNonce(attack) },
		func(c *hostileConn) { c.newOrder(attack) },
		func(*hostileConn) { p.TryACMEAccount(t, h.credential, nil) },
		func(c *hostileConn) {
			c.send(attack, http.MethodPost, h.base+"/new-order", strings.NewReader(h.sign("AAAA", h.base+"/new-order", "{}")))
		},
		func(c *hostileConn) {
			status, _, err := c.send(attack, http.MethodPost, h.base+"/new-order", io.LimitReader(endless{}, 100<<20))
			if err == nil && status < http.StatusBadRequest {
				t.Errorf("100 MB: status %d", status)
			}
		},
	} {
		for range 2 {
			c := h.conn(t)
			attacking.Go(func() {
				for attack.Err() == nil {
					do(c)
					sent[kind].Add(1)
				}
			})
		}
	}
	for range 4 {
		neverRead(t, p, h.base)
	}
	for i := range 5 {
		watch.Until(t, "all attacks go on", func() bool {
			for kind := range sent {
				if sent[kind].Load() <= int64(i) {
					return false
				}
			}
			return true
		})
		if _, err := good.Obtain(t, fmt.Sprintf("a%d.good.example.com", i)); err != nil {
			t.Errorf("certificate %d: %v", i, err)
		}
	}
	end()
	attacking.Wait()
	for kind := range sent {
		t.Logf("attack %d: %d requests", kind, sent[kind].Load())
	}
	if n := rows(t, p, "acme_orders WHERE status <> 'valid'"); n > unfinished {
		t.Errorf("%d unfinished orders are stored", n)
	}
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'a'
	}
	return len(b), nil
}

// neverRead sends requests on a connection and reads no answer, until the test ends or the
// proxy closes it.
func neverRead(t *testing.T, p *proxytest.Proxy, base string) {
	t.Helper()
	conn, err := tls.Dial("tcp", p.HTTPSAddr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	t.Cleanup(func() {
		conn.Close()
		writing.Wait()
	})
	writing.Go(func() {
		requests := strings.Repeat("GET "+base[strings.LastIndex(base, "/"):]+"/directory HTTP/1.1\r\nHost: "+proxytest.ACMEName+"\r\n\r\n", 100)
		var err error
		for err == nil {
			_, err = io.WriteString(conn, requests)
		}
	})
}

// slowBodies sends three requests at a time, whose bodies end when the returned function is
// called. It returns their statuses.
func (c *hostileConn) slowBodies(t *testing.T) (statuses chan int, end func()) {
	t.Helper()
	statuses = make(chan int, 3)
	var writers []*io.PipeWriter
	for range cap(statuses) {
		body, w := io.Pipe()
		writers = append(writers, w)
		go func() {
			// Not send: it stores the nonce.
			resp, err := proxytest.Exchange(t.Context(), c.http.Transport.(*http.Transport), http.MethodPost, c.base+"/new-order", "", body)
			if err != nil {
				statuses <- 0
				return
			}
			statuses <- resp.StatusCode
		}()
	}
	end = sync.OnceFunc(func() {
		for _, w := range writers {
			w.Close()
		}
	})
	t.Cleanup(end)
	return statuses, end
}

// The connection of a client that was locked out counts as a stranger's again, so that its
// slow requests take no places of clients (X41).
func TestLockedOutACMEClientIsAStranger(t *testing.T) {
	p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) {
		proxytest.WithACME(c)
		c.Limits.StrangerBody = time.Second
	}})
	h := newHostileClient(t, p)
	c, ctx := h.conn(t), t.Context()
	if err := c.newNonce(ctx); err != nil {
		t.Fatal(err)
	}
	if status, answer, err := c.newOrder(ctx); err != nil || status != http.StatusCreated {
		t.Fatal(status, answer, err)
	}
	statuses, end := c.slowBodies(t)
	end()
	for range cap(statuses) {
		if status := <-statuses; status != http.StatusUnsupportedMediaType {
			t.Errorf("a slow request of a client: %d", status)
		}
	}
	if _, err := p.Admin.RevokeACME(ctx, "hostile", h.credential.Credential.ID); err != nil {
		t.Fatal(err)
	}
	if status, answer, err := c.newOrder(ctx); err != nil || status != http.StatusBadRequest {
		t.Fatal(status, answer, err)
	}
	statuses, _ = c.slowBodies(t)
	for range cap(statuses) {
		switch status := <-statuses; status {
		case http.StatusServiceUnavailable, http.StatusBadRequest: // no place on the connection, no body in a stranger's time
		default:
			t.Errorf("a slow request of a client that was locked out: %d", status)
		}
	}
}

// A client that begins with many names at once sends all requests on one connection before
// it has signed anything, as Caddy does. None is refused (C7).
func TestManyRequestsBeforeASignature(t *testing.T) {
	p := proxytest.Start(t, proxytest.Options{Change: proxytest.WithACME})
	client := p.ACMEHTTP(t, nil)
	get := func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "https://"+proxytest.ACMEName+"/acme/new-nonce", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Replay-Nonce") == "" || resp.ProtoMajor != 2 {
			return fmt.Errorf("%s over %s, nonce %q", resp.Status, resp.Proto, resp.Header.Get("Replay-Nonce"))
		}
		return nil
	}
	if err := get(); err != nil { // so that all others use its connection
		t.Fatal(err)
	}
	var all errgroup.Group
	for range 60 {
		all.Go(get)
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
}
