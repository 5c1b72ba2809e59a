package rest_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// hold opens a connection from an address of loopback, on which as many requests
// remain in progress as the proxy lets a stranger have: it sends no body, and
// leaves no window for an answer.
func hold(t *testing.T, p *proxytest.Proxy, ip net.IP, version, method, path string) {
	t.Helper()
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}}
	raw, err := from.Dial("tcp", p.HTTPSAddr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{version}})
	if version == "http/1.1" {
		if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n", method, path); err != nil {
			t.Fatal(err)
		}
		return
	}
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	fr := http2.NewFramer(c, c)
	if err := fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", method}, {":scheme", "https"}, {":authority", "x"}, {":path", path}, {"content-type", "application/json"}} {
		enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true})
	}
	for i := range uint32(8) {
		h := http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: block.Bytes(), EndStream: method == http.MethodGet, EndHeaders: true}
		if err := fr.WriteHeaders(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := fr.WritePing(false, [8]byte{1}); err != nil {
		t.Fatal(err)
	}
	for { // until the proxy has read it all, or the connection had to go
		f, err := fr.ReadFrame()
		if ping, ok := f.(*http2.PingFrame); err != nil || ok && ping.IsAck() {
			return
		}
	}
}

// Strangers from 15 addresses who send their bodies slowly, or do not read
// answers, keep neither /health nor an enrolment from another address, and not
// the answer to a wrong credential (X41).
func TestStrangersHoldNoPlace(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]struct{ version, method, path string }{
		"enrolments without a body":           {"h2", "POST", api.PathEnroll},
		"enrolments without a body, HTTP/1.1": {"http/1.1", "POST", api.PathEnroll},
		"health, not read":                    {"h2", "GET", api.PathHealth},
		"documents, not read":                 {"h2", "GET", api.PathOpenAPI},
		"refusals, not read":                  {"h2", "GET", api.PathClient},
		"paths that are no text, not read":    {"h2", "GET", "/v1/%00"},
		"enrolments, not read":                {"h2", "GET", api.PathEnroll},
	} {
		t.Run(name, func(t *testing.T) {
			// An eighth of the usual connections, so an eighth of the places.
			p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) {
				c.Limits = proxy.Limits{Connections: 512, StrangerBody: time.Hour}
			}})
			for i := range 15 {
				for range 4 {
					hold(t, p, net.IPv4(127, 3, 0, byte(1+i)), attack.version, attack.method, attack.path)
				}
			}
			for _, version := range []string{"h2", "http/1.1"} {
				if resp := newCaller(t, p, version, "").do(t, request{method: "GET", path: api.PathHealth}); resp.status != http.StatusOK {
					t.Errorf("health: %d %s", resp.status, resp.body)
				}
				newCaller(t, p, version, "").do(t, request{method: "GET", path: api.PathClient}).refused(t, "", "", http.StatusUnauthorized)
				c := newCaller(t, p, version, "")
				c.enroll(t, p, "web-"+version[:2], proxytest.Grant(clients.ModeAgent, "a.example.com"))
				if resp := c.do(t, request{method: "GET", path: api.PathClient}); resp.status != http.StatusOK {
					t.Errorf("a client: %d %s", resp.status, resp.body)
				}
			}
			if strings.Contains(p.Log(), "panic") {
				t.Error("a request panicked")
			}
		})
	}
}
