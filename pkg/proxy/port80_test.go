package proxy_test

import (
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// No answer of the open port contains bytes of the request.
func TestPort80ReflectsNothing(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	const sentinel = "XyzzyPlugh"
	big := strings.Repeat(sentinel, 10_000)
	for name, row := range map[string]struct {
		text   string
		status string
	}{
		"a token":              {"GET " + responder.Prefix + sentinel + " HTTP/1.1\r\nHost: " + sentinel + "\r\nConnection: close\r\n\r\n", "404"},
		"a path":               {"GET /" + sentinel + "?" + sentinel + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"},
		"an unclean path":      {"GET //" + sentinel + "/../x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"},
		"another URL":          {"GET http://" + sentinel + "/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"},
		"CONNECT":              {"CONNECT " + sentinel + ":443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"},
		"OPTIONS *":            {"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"},
		"TRACE":                {"TRACE / HTTP/1.1\r\nHost: x\r\nX: " + sentinel + "\r\nConnection: close\r\n\r\n", "404"},
		"a body":               {"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10\r\n\r\n" + sentinel, "404"},
		"a header too large":   {"GET / HTTP/1.1\r\nHost: x\r\nX: " + big + "\r\n\r\n", "431"},
		"a path too large":     {"GET /" + big + " HTTP/1.1\r\nHost: x\r\n\r\n", "431"},
		"a line without end":   {"GET /" + big, "431"},
		"a method of its own":  {sentinel + " / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"},
		"no HTTP":              {sentinel + "\r\n\r\n", "400"},
		"another version":      {"GET / HTTP/9.9\r\nHost: " + sentinel + "\r\n\r\n", "505"},
		"HTTP/2 without TLS":   {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "404"},
		"no host":              {"GET / HTTP/1.1\r\n\r\n", "400"},
		"two hosts":            {"GET / HTTP/1.1\r\nHost: x\r\nHost: " + sentinel + "\r\n\r\n", "400"},
		"a strange encoding":   {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: " + sentinel + "\r\n\r\n", "501"},
		"a bad length":         {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + sentinel + "\r\n\r\n", "400"},
		"a bad header":         {"GET / HTTP/1.1\r\nHost: x\r\n" + sentinel + " y: z\r\n\r\n", "400"},
		"an expectation":       {"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: " + sentinel + "\r\nContent-Length: 1\r\n\r\n", "417"},
		"the API":              {"GET /v1/client HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"},
		"the API's health":     {"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"},
		"a TLS client's hello": {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + sentinel + "\r\n\r\n", "400"},
	} {
		t.Run(name, func(t *testing.T) {
			answer := p.Raw(t, false, row.text)
			if strings.Contains(answer, sentinel) {
				t.Errorf("it repeats: %q", answer)
			}
			if answer != "" && !strings.HasPrefix(answer, "HTTP/1.1 "+row.status) && !strings.HasPrefix(answer, "HTTP/1.0 "+row.status) {
				t.Errorf("answer %.200q, want %s", answer, row.status)
			}
			if len(answer) > 1024 {
				t.Errorf("%d bytes", len(answer))
			}
		})
	}
	if n := p.CA.Requests().Total(); n != 0 {
		t.Errorf("the CA had %d requests", n)
	}
	if strings.Contains(p.Log(), sentinel) {
		t.Error("the log has what strangers send")
	}
}
