//go:build unix

package strangertest_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// slowEnrolments opens connections and sends three enrolments without a body over
// each. It returns when two of each three were refused.
func slowEnrolments(ctx context.Context, t *testing.T, url, ip string, conns int) (last *http.Transport, results chan *http.Response) {
	t.Helper()
	const each = 3
	results = make(chan *http.Response, conns*each)
	for range conns {
		last = proxytest.DialFrom(t, ip, &tls.Config{})
		if resp, err := proxytest.Exchange(ctx, last, http.MethodGet, url+api.PathHealth, "", nil); err != nil || resp.ProtoMajor != 2 {
			t.Fatal(resp, err)
		}
		for range each {
			transport := last
			body, w := io.Pipe()
			t.Cleanup(func() { w.Close() })
			go func() {
				resp, _ := proxytest.Exchange(ctx, transport, http.MethodPost, url+api.PathEnroll, "", body)
				results <- resp // nil if the test closed the connection
			}()
		}
	}
	for range conns * (each - 1) {
		resp := <-results
		if resp == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Fatalf("an enrolment too many: %+v", resp)
		}
	}
	return last, results
}

// readAgain waits until the transport's connection has a place for an enrolment.
func readAgain(t *testing.T, transport *http.Transport, url string) {
	t.Helper()
	watch.Until(t, "an enrolment is read again", func() bool {
		resp, err := proxytest.Exchange(t.Context(), transport, http.MethodPost, url+api.PathEnroll, "", strings.NewReader("{}"))
		return err == nil && resp.StatusCode == http.StatusUnprocessableEntity
	})
}

// A connection has at most one enrolment of a stranger in progress. Further ones are
// refused before their bodies are read. Other connections from that address, other
// addresses and clients are served meanwhile. The place is free again as soon as the
// stranger closes the connection (X41).
func TestStrangersInProgress(t *testing.T) {
	p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) { c.Limits.StrangerBody = time.Hour }})
	token := p.Bearer(t, "web1", proxytest.Grant(clients.ModeGateway, "*.example.com"))
	expect := func(ip, path, token, proto string, want int) {
		t.Helper()
		transport := proxytest.DialFrom(t, ip, &tls.Config{NextProtos: []string{proto}})
		resp, err := proxytest.Exchange(t.Context(), transport, http.MethodGet, p.URL+path, token, nil)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s from %s over %s: %+v, %v; want %d", path, ip, proto, resp, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const conns = 40
	last, results := slowEnrolments(ctx, t, p.URL, "127.0.0.21", conns)
	for _, ip := range []string{"127.0.0.21", "127.0.0.22"} {
		for _, proto := range []string{"h2", "http/1.1"} {
			expect(ip, api.PathHealth, "", proto, http.StatusOK)
			expect(ip, api.PathClient, "wrong", proto, http.StatusUnauthorized)
			expect(ip, api.PathClient, token, proto, http.StatusOK)
		}
	}
	cancel()
	for range conns {
		if resp := <-results; resp != nil {
			t.Errorf("an enrolment without a body was answered before the stranger hung up: %+v", resp)
		}
	}
	readAgain(t, last, p.URL)
}

// An enrolment without a body ends at its deadline, and its place is free again
// (X41).
func TestStrangersTime(t *testing.T) {
	p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) {
		c.Limits.StrangerBody, c.Limits.StrangerAnswer = time.Second, time.Hour
	}})
	var transports []*http.Transport
	results := make(chan *http.Response)
	const conns = 10
	for range conns {
		transport := proxytest.DialFrom(t, "127.0.0.21", &tls.Config{})
		transports = append(transports, transport)
		body, w := io.Pipe()
		t.Cleanup(func() { w.Close() })
		go func() {
			resp, err := proxytest.Exchange(t.Context(), transport, http.MethodPost, p.URL+api.PathEnroll, "", body)
			if err != nil {
				t.Error(err)
			}
			results <- resp
		}()
	}
	for range conns {
		if resp := <-results; resp == nil || resp.StatusCode != http.StatusRequestTimeout {
			t.Errorf("an enrolment without a body: %+v", resp)
		}
	}
	for _, transport := range transports {
		readAgain(t, transport, p.URL)
	}
}
