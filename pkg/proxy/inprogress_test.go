package proxy_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// dialFrom returns a transport with one connection at a time, from an address
// of loopback.
func dialFrom(t *testing.T, ip string, config *tls.Config) *http.Transport {
	t.Helper()
	config.InsecureSkipVerify = true
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	transport := &http.Transport{DialContext: from.DialContext, TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// exchange sends one request and returns the answer, whose body is read.
func exchange(ctx context.Context, transport *http.Transport, method, url, token string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp, err
}

// slowEnrolments opens connections and sends three enrolments over each, none
// with its body. It returns when two of each three were refused.
func slowEnrolments(ctx context.Context, t *testing.T, url, ip string, conns int) (last *http.Transport, results chan *http.Response) {
	t.Helper()
	const each = 3
	results = make(chan *http.Response, conns*each)
	for range conns {
		last = dialFrom(t, ip, &tls.Config{})
		if resp, err := exchange(ctx, last, http.MethodGet, url+api.PathHealth, "", nil); err != nil || resp.ProtoMajor != 2 {
			t.Fatal(resp, err)
		}
		for range each {
			transport := last
			body, w := io.Pipe()
			t.Cleanup(func() { w.Close() })
			go func() {
				resp, _ := exchange(ctx, transport, http.MethodPost, url+api.PathEnroll, "", body)
				results <- resp // nil: the test hung up
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

// A connection has one enrolment of a stranger in progress and no more: the next
// ones are refused before their bodies are read. Other connections from that
// address, other addresses and clients are served meanwhile. The place is free
// again as soon as the enrolment ends, because the stranger hangs up or by its
// time (X41).
func TestStrangersInProgress(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	token := p.Bearer(t, "web1", proxytest.Grant(clients.ModeGateway, "*.example.com"))
	expect := func(ip, path, token, proto string, want int) {
		t.Helper()
		transport := dialFrom(t, ip, &tls.Config{NextProtos: []string{proto}})
		resp, err := exchange(t.Context(), transport, http.MethodGet, p.URL+path, token, nil)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s from %s over %s: %+v, %v; want %d", path, ip, proto, resp, err, want)
		}
	}
	for _, hangUp := range []bool{true, false} {
		const conns = 40
		ctx, cancel := context.WithCancel(t.Context())
		last, results := slowEnrolments(ctx, t, p.URL, "127.0.0.21", conns)
		for _, ip := range []string{"127.0.0.21", "127.0.0.22"} {
			for _, proto := range []string{"h2", "http/1.1"} {
				expect(ip, api.PathHealth, "", proto, http.StatusOK)
				expect(ip, api.PathClient, "wrong", proto, http.StatusUnauthorized)
				expect(ip, api.PathClient, token, proto, http.StatusOK)
			}
		}
		if hangUp {
			cancel()
		}
		for range conns {
			if resp := <-results; !hangUp && (resp == nil || resp.StatusCode != http.StatusRequestTimeout) {
				t.Errorf("an enrolment without a body: %+v", resp)
			}
		}
		cancel()
		watch.Until(t, "an enrolment is read again", func() bool {
			resp, err := exchange(t.Context(), last, http.MethodPost, p.URL+api.PathEnroll, "", strings.NewReader("{}"))
			return err == nil && resp.StatusCode == http.StatusUnprocessableEntity
		})
	}
}
