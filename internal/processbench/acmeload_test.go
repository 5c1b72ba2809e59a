package processbench

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// acmeTask and acmeTurn are the input and the output of acmeLoad, each on a line.
type (
	acmeTask struct{ Conns, Certificates int }
	acmeTurn struct {
		Took     time.Duration
		NewOrder time.Duration // median
		Finalize time.Duration // median
	}
)

// acmeLoad orders certificates from the ACME server at $ACMEPROXY_BENCH_ADDR, one turn
// for each task. An account has a connection and one order at a time.
func acmeLoad() error {
	var clients []*acmeClient
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for run := 0; ; run++ {
		var t acmeTask
		if err := in.Decode(&t); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		for len(clients) < t.Conns {
			c, err := newACMEClient(os.Getenv(addrVariable))
			if err != nil {
				return err
			}
			clients = append(clients, c)
		}
		result, err := orderAll(clients[:t.Conns], t.Certificates, fmt.Sprintf("%d-%d", os.Getpid(), run))
		if err != nil {
			return err
		}
		if err := out.Encode(result); err != nil {
			return err
		}
	}
}

// orderAll makes the clients order n certificates in all.
func orderAll(clients []*acmeClient, n int, label string) (turn acmeTurn, err error) {
	var mu sync.Mutex // guards the fields below
	var newOrder, finalize []time.Duration
	begun := time.Now()
	var all errgroup.Group
	for i, c := range clients {
		all.Go(func() error {
			for k := i; k < n; k += len(clients) {
				first, second, err := c.certificate(fmt.Sprintf("n%d-%s.example.com", k, label))
				if err != nil {
					return err
				}
				mu.Lock()
				newOrder, finalize = append(newOrder, first), append(finalize, second)
				mu.Unlock()
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		return turn, err
	}
	turn.Took = time.Since(begun)
	slices.Sort(newOrder)
	slices.Sort(finalize)
	turn.NewOrder, turn.Finalize = newOrder[n/2], finalize[n/2]
	return turn, nil
}

// acmeClient is an ACME client that costs little, so that the server has most of the two
// cores: it writes HTTP itself, and has the URLs of its server built in.
type acmeClient struct {
	addr  string
	conn  *tls.Conn
	in    *bufio.Reader
	key   crypto.Signer
	jwk   rawacme.Fields // nil when the account exists
	kid   string
	nonce string
}

// newACMEClient connects and registers an account.
func newACMEClient(addr string) (*acmeClient, error) {
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	c := &acmeClient{addr: addr, conn: conn, in: bufio.NewReader(conn), key: rawacme.NewKey()}
	c.jwk = rawacme.JWK(c.key.Public())
	if _, _, err := c.exchange(http.MethodHead, acmeBase+"/new-nonce", nil); err != nil {
		return nil, err
	}
	location, _, err := c.post(c.url("/new-account"), "{}")
	c.kid, c.jwk = location, nil
	return c, err
}

func (c *acmeClient) url(path string) string { return "https://" + c.addr + acmeBase + path }

// certificate orders a certificate and downloads it. It returns the time of newOrder and
// of finalize.
func (c *acmeClient) certificate(name string) (newOrder, finalize time.Duration, err error) {
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		return 0, 0, err
	}
	csr, err := cert.NewCSR(key, cert.Names{name})
	if err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	order, _, err := c.post(c.url("/new-order"), `{"identifiers":[{"type":"dns","value":"`+name+`"}]}`)
	if err != nil {
		return 0, 0, err
	}
	newOrder = time.Since(begun)
	_, body, err := c.post(order+"/finalize", `{"csr":"`+rawacme.B64(csr)+`"}`)
	if err != nil {
		return 0, 0, err
	}
	finalize = time.Since(begun) - newOrder
	var valid struct{ Certificate string }
	if err := json.Unmarshal(body, &valid); err != nil || valid.Certificate == "" {
		return 0, 0, fmt.Errorf("finalize is not finished at once: %s, %w", body, err)
	}
	_, chain, err := c.post(valid.Certificate, "")
	if err == nil && !bytes.HasPrefix(chain, []byte("-----BEGIN CERTIFICATE-----")) {
		err = fmt.Errorf("the certificate is %s", chain)
	}
	return newOrder, finalize, err
}

// post sends a signed request to a URL of the server.
func (c *acmeClient) post(url, payload string) (location string, body []byte, err error) {
	header := rawacme.Fields{"alg": "ES256", "nonce": c.nonce, "url": url}
	if c.jwk != nil {
		header["jwk"] = c.jwk
	} else {
		header["kid"] = c.kid
	}
	return c.exchange(http.MethodPost, url[len("https://"+c.addr):], rawacme.JSON(rawacme.Sign("ES256", c.key, header, payload)))
}

// exchange sends a request and remembers the nonce of its answer.
func (c *acmeClient) exchange(method, path string, body []byte) (location string, answer []byte, err error) {
	request := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nContent-Type: application/jose+json\r\nContent-Length: %d\r\n\r\n",
		method, path, c.addr, len(body))
	if _, err := c.conn.Write(append(request, body...)); err != nil {
		return "", nil, err
	}
	resp, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	c.nonce = resp.Header.Get("Replay-Nonce")
	return resp.Header.Get("Location"), answer, err
}
