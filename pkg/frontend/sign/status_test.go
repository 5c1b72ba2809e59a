package sign_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"html"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawhttp"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

const namespace = "urn:ietf:params:acme:error:"

// refusing is an issuer whose CA refuses with an error.
func refusing(err error) issuerFunc {
	return func(context.Context, cert.Request) (*cert.Bundle, error) { return nil, err }
}

// ask sends a raw request and checks the status, and that an error is a page on a
// connection that ends (M15).
func (l *lab) ask(t *testing.T, text string, want int) (*http.Response, string) {
	t.Helper()
	resp, body := rawhttp.Ask(t, l.addr, text)
	if resp.StatusCode != want {
		t.Errorf("%.200q: %s", text, resp.Status)
	}
	if resp.Header.Get("Content-Type") != "text/html;charset=utf-8" || !resp.Close || !strings.HasPrefix(body, "<!DOCTYPE html>") {
		t.Errorf("%.200q: %v %.100q", text, resp.Header, body)
	}
	return resp, body
}

// What is no CSR to /sign, and who may not send one: M4, M5, M7, M10, M11, M15.
func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	l := newLab(t, refusing(errors.New("an order")), "[auth web]\nip=127.0.0.1\ndomain=*\n")
	const head, garbage = " HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n", "garbage"
	for _, path := range []string{"/signing", "/sign/", "/sign?x", "/sign?", "//sign", "/", "/Sign", "/%73ign", "http://x/sign"} {
		l.ask(t, "POST "+path+head+garbage, http.StatusNotFound) // M4
	}
	for _, method := range []string{"GET", "PUT", "DELETE", "OPTIONS", "post"} {
		resp, _ := l.ask(t, method+" /sign"+head+garbage, http.StatusMethodNotAllowed) // M5
		if resp.Header.Get("Allow") != "POST" {
			t.Errorf("%v", resp.Header)
		}
	}
	l.ask(t, "POST /sign HTTP/1.1\r\nHost: x\r\n\r\n", http.StatusLengthRequired) // M7
	l.ask(t, "POST /sign HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7\r\ngarbage\r\n0\r\n\r\n", http.StatusLengthRequired)
	l.ask(t, "POST /sign"+head+garbage, http.StatusUnsupportedMediaType) // M10
	l.ask(t, "POST /sign HTTP/1.0\r\nContent-Length: 0\r\n\r\n", http.StatusUnsupportedMediaType)

	other := newLab(t, refusing(errors.New("an order")), "[auth web]\nip=127.8.0.1\ndomain=*\n")
	// The answer comes although the body never does (M11, M24).
	other.ask(t, "POST /sign HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 127.8.0.1\r\nContent-Length: 7\r\n\r\n", http.StatusForbidden)
	if e := other.audit(t); len(e) != 1 || e[0].Outcome != "refused" || e[0].Addr != "127.0.0.1" || e[0].ClientID != "" {
		t.Errorf("%+v", e)
	}
}

// A CSR of max-size is read, and a larger one is refused before its body comes (M8, M9).
func TestMaxSize(t *testing.T) {
	t.Parallel()
	l := newLab(t, refusing(errors.New("an order")), "[mgmt]\nmax-size=600\n[auth web]\nall=yes\ndomain=*\n")
	l.ask(t, "POST /sign HTTP/1.1\r\nHost: x\r\nContent-Length: 600\r\n\r\n"+strings.Repeat("x", 600), http.StatusUnsupportedMediaType)
	l.ask(t, "POST /sign HTTP/1.1\r\nHost: x\r\nContent-Length: 601\r\n\r\n", http.StatusRequestEntityTooLarge)
	l = newLab(t, refusing(errors.New("an order")), "[mgmt]\nmax-size=16k\n[auth web]\nall=yes\ndomain=*\n")
	l.ask(t, "POST /sign HTTP/1.1\r\nHost: x\r\nContent-Length: 16384\r\n\r\n"+strings.Repeat("x", 16384), http.StatusUnsupportedMediaType)
	l.ask(t, "POST /sign HTTP/1.1\r\nHost: x\r\nContent-Length: 16385\r\n\r\n", http.StatusRequestEntityTooLarge)
}

// Identifiers that no block can allow, and names that none allows, are denied before an
// order (M16, M18, M19). A CSR with a damaged signature is not one.
func TestRefusedCSRs(t *testing.T) {
	t.Parallel()
	ordered := errors.New("an order")
	l := newLab(t, refusing(ordered), "[auth a]\nall=yes\ndomain=*.example.org\n[auth b]\nall=yes\ndomain=*.example.com\n")
	key := newKey(t, cert.EC256)
	const name = "a.example.org"
	for what, template := range map[string]*x509.CertificateRequest{
		"names of two blocks": {DNSNames: []string{name, "a.example.com"}},
		"common name":         {Subject: pkix.Name{CommonName: "a.example.net"}, DNSNames: []string{name}},
		"IP address":          {DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 2)}},
		"e-mail address":      {DNSNames: []string{name}, EmailAddresses: []string{"a@example.org"}},
		"URI":                 {DNSNames: []string{name}, URIs: []*url.URL{{Scheme: "https", Host: name}}},
		"address as name":     {Subject: pkix.Name{CommonName: "127.0.0.2"}, DNSNames: []string{name}},
		"no name":             {Subject: pkix.Name{Organization: []string{"a.example.org"}}},
		"CA certificate":      {DNSNames: []string{name}, ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}, Value: []byte{0x30, 3, 1, 1, 0xff}}}},
	} {
		if a := l.post(t, encodeCSR(t, key, template)); a.StatusCode != http.StatusForbidden || strings.Contains(a.body, "auth") {
			t.Errorf("%s: %s %s", what, a.Status, a.body)
		}
	}
	good := newCSR(t, key, name) // M18: the common name alone counts
	if a := l.post(t, good); a.StatusCode != http.StatusInternalServerError {
		t.Errorf("it comes to no order: %s", a.Status)
	}
	if a := l.post(t, newCSR(t, key, "b.example.org", name)); a.StatusCode != http.StatusInternalServerError {
		t.Errorf("a common name beside the alternative names: %s", a.Status)
	}
	block, _ := pem.Decode(good)
	block.Bytes[len(block.Bytes)-1] ^= 1
	if a := l.post(t, pem.EncodeToMemory(block)); a.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("damaged signature: %s", a.Status)
	}
	if a := l.post(t, []byte("<script>\n"+string(good[:40]))); strings.Contains(a.body, "<script>") {
		t.Error(a.body)
	}
}

// The header Authentication: right, wrong and malformed (M26–M31, M35).
func TestHMAC(t *testing.T) {
	t.Parallel()
	l := newLab(t, refusing(errors.New("an order")), "[auth a]\nip=127.0.0.1\nhmac_type=sha256\nhmac_key=secret\ndomain=*\n")
	csr := newCSR(t, newKey(t, cert.EC256), "", "a.example.org")
	right := signed("secret", csr)
	for header, want := range map[string]int{
		right:                                http.StatusInternalServerError, // an order
		strings.Replace(right, ", ", " ", 1): http.StatusInternalServerError, // M27
		strings.Replace(right, "sha256", "sha2-256", 1):              http.StatusInternalServerError, // M28
		strings.Replace(right, "sha256", "sha384", 1):                http.StatusForbidden,
		signed("other", csr):                                         http.StatusForbidden, // M29
		signed("secret", csr[1:]):                                    http.StatusForbidden,
		"Authentication: hmac":                                       http.StatusForbidden, // M30
		"Authentication: Basic abcd":                                 http.StatusForbidden,
		"Authentication: hmac name=sha256":                           http.StatusForbidden,
		"Authentication: hmac name=sha256, hash=é":                   http.StatusForbidden,
		strings.Replace(right, "Authentication", "Authorization", 1): http.StatusForbidden,
	} {
		if a := l.post(t, csr, header); a.StatusCode != want {
			t.Errorf("%.60s: %s", header, a.Status)
		}
	}
	if text := l.log.String(); strings.Contains(text, "secret") || strings.Contains(text, right[len(right)-20:]) {
		t.Error(text)
	}
}

// What the CA answers (M12, M13, M14), with the reasons of ACMEMS in the status line. The
// page shows the words of the CA, and no cause at the proxy.
func TestFailures(t *testing.T) {
	t.Parallel()
	const (
		in     = "[auth a]\nall=yes\ndomain=*\n"
		failed = "500 Internal Server Error"
	)
	cases := map[string]struct {
		err        error
		want       string
		text       string
		retryAfter bool
	}{
		"validation.example.org": {
			&acme.Error{Kind: acme.Permanent, Type: namespace + "connection", Identifier: "x", Detail: "refused <by> it"},
			"421 Misdirected Request: Validation failed", "x: refused &lt;by&gt; it", false,
		},
		"limit.example.org": {
			&acme.Error{Kind: acme.RateLimited, Type: namespace + "rateLimited", Detail: "too many", RetryAt: time.Now().Add(time.Hour)},
			"429 Certificate declined due to rate limiting", "too many", true,
		},
		"name.example.org":  {&acme.Error{Kind: acme.Permanent, Type: namespace + "rejectedIdentifier", Detail: "a bad name"}, failed, "a bad name", false},
		"dns.example.org":   {&acme.Error{Kind: acme.Temporary, Detail: "10.0.0.1 fails", Err: errors.New("cause")}, failed, html.EscapeString(acme.Hidden), false},
		"other.example.org": {errors.New("a file"), failed, "internal error", false},
	}
	l := newLab(t, issuerFunc(func(_ context.Context, req cert.Request) (*cert.Bundle, error) { return nil, cases[req.Names[0]].err }), in)
	for name, c := range cases {
		a := l.post(t, newCSR(t, newKey(t, cert.EC256), "", name))
		if a.Status != c.want || !strings.Contains(a.body, c.text) || strings.Contains(a.body, "10.0.0.1") || !a.Close {
			t.Errorf("%s: %s %v %s", name, a.Status, a.Header, a.body)
		}
		if a.Header.Get("Content-Type") != "text/html;charset=utf-8" || (a.Header.Get("Retry-After") != "") != c.retryAfter {
			t.Errorf("%s: %v", name, a.Header)
		}
	}
	if e := l.audit(t); len(e) != 2*len(cases) || e[0].Outcome != "failed" || e[0].ClientName != "sign:a" || e[1].Outcome != "allowed" {
		t.Errorf("%+v", e)
	}
}
