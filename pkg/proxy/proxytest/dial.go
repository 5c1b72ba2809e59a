package proxytest

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/watch"
)

// DialFrom returns a transport that connects from a loopback address. It accepts any
// certificate.
func DialFrom(t testing.TB, ip string, config *tls.Config) *http.Transport {
	t.Helper()
	config.InsecureSkipVerify = true
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	transport := &http.Transport{DialContext: from.DialContext, TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// Exchange sends one request, with a bearer token if it is not empty, and returns
// the answer, whose body is read.
func Exchange(ctx context.Context, transport *http.Transport, method, url, token string, body io.Reader) (*http.Response, error) {
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

// Raw sends bytes to the API's port, if secure is set, or to port 80, and returns
// all bytes until the proxy closes the connection.
func (p *Proxy) Raw(t testing.TB, secure bool, text string) string {
	t.Helper()
	addr := p.HTTPAddr()
	if secure {
		addr = p.HTTPSAddr()
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	}
	defer conn.Close()
	if err := conn.SetDeadline(watch.Deadline(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return "" // the proxy closed it early
	}
	answer, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%.60q holds its connection", text)
	}
	return string(answer)
}
