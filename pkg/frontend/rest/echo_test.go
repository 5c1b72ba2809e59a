package rest_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/api"
)

// echoed returns the longest part of an answer that was sent in the request, up to
// some hundred bytes.
func echoed(answer, sent string) string {
	longest := ""
	for i := range answer {
		for n := len(longest) + 1; i+n <= len(answer) && n <= 300 && strings.Contains(sent, answer[i:i+n]); n++ {
			longest = answer[i : i+n]
		}
	}
	return longest
}

// No problem repeats more than some tens of bytes of any part of a request (X41).
func TestProblemsRepeatLittle(t *testing.T) {
	t.Parallel()
	const n = 60_000
	digits, letters := strings.Repeat("8675309", n/7), strings.Repeat("abcdefgh", n/8)
	words, label := strings.Repeat("lorem ipsum ", n/12), strings.Repeat("xyz", 20)
	long := strings.Repeat(label+".", 3) + "b.example.com" // a name, and a valid one
	csr := func(template *x509.CertificateRequest) string {
		return object("mode", "gateway", "csr", csrPEM(t, template, nil, nil))
	}
	names := []string{"web.a.example.com"}
	var many []string
	for i := range 90 {
		many = append(many, strings.Repeat(string(rune('a'+i%26)), 40)+strings.Repeat("x", i/26)+".a.example.com")
	}
	bodies := map[string]string{
		"a number of 60,000 digits":      `{"mode":"gateway","names":` + digits + `}`,
		"a number in a list":             `{"mode":"gateway","names":[1` + digits + `]}`,
		"a number with an exponent":      `{"mode":"gateway","names":["a.example.com"],"profile":1e` + digits + `}`,
		"a number alone":                 digits,
		"a field's name":                 object("mode", "gateway", "names", names, letters, 1),
		"a field's name of words":        object("mode", "gateway", "names", names, words, 1),
		"a value of a list of values":    object("mode", letters, "names", names),
		"a name":                         object("mode", "gateway", "names", []string{letters}),
		"a name of words":                object("mode", "gateway", "names", []string{words[:1000]}),
		"a name of quotes":               object("mode", "gateway", "names", []string{strings.Repeat(`"\`, 400)}),
		"a name that is not granted":     object("mode", "gateway", "names", []string{long}),
		"a wildcard that is not granted": object("mode", "gateway", "names", []string{"*." + long}),
		"90 names beside a CSR":          object("mode", "gateway", "names", many, "csr", csrPEM(t, &x509.CertificateRequest{DNSNames: names}, nil, nil)),
		"a key type":                     object("mode", "gateway", "names", names, "key_type", letters[:16]),
		"a profile":                      object("mode", "gateway", "names", names, "profile", letters),
		"not JSON":                       letters,
		"a string that does not end":     `{"mode":"` + letters,
		"a PEM block's type":             object("mode", "gateway", "csr", string(pem.EncodeToMemory(&pem.Block{Type: words[:50_000], Bytes: []byte("x")}))),
		"a CSR's common name":            csr(&x509.CertificateRequest{Subject: pkix.Name{CommonName: words[:900]}, DNSNames: names}),
		"a CSR's name":                   csr(&x509.CertificateRequest{DNSNames: []string{words[:900]}}),
		"a CSR's extension":              csr(&x509.CertificateRequest{DNSNames: names, ExtraExtensions: []pkix.Extension{{Id: make([]int, 5000), Value: []byte{5, 0}}}}),
	}
	both(t, func(t *testing.T, version string) {
		g, c := enrolled(t, version)
		check := func(name string, r request, sent string) {
			t.Run(name, func(t *testing.T) {
				resp := c.do(t, r)
				if resp.status < 400 {
					t.Fatalf("%d %.300s", resp.status, resp.body)
				}
				lines := []string{resp.body}
				for _, values := range resp.header {
					lines = append(lines, values...)
				}
				text := strings.Join(lines, "\n")
				if part := echoed(text, sent); len(part) > 80 || len(resp.body) > 4<<10 {
					t.Errorf("%d bytes, of which these were sent: %q\n%.600s", len(text), part, text)
				}
			})
		}
		for name, body := range bodies {
			check(name, request{method: "POST", path: api.PathCertificates, body: body}, body)
		}
		for name, body := range map[string]string{
			"enrol, a number":    `{"secret":"AAAA","recipients":[` + digits[:30_000] + `]}`,
			"enrol, a secret":    object("secret", letters[:30_000], "recipients", []string{}),
			"enrol, a recipient": object("secret", "AAAA", "recipients", []string{words[:20_000]}),
		} {
			check(name, request{method: "POST", path: api.PathEnroll, body: body}, body)
		}
		for name, body := range map[string]string{
			"key, no base64": object("public_key", words[:2000], "proof", "AAAA"),
			"key, a number":  `{"public_key":` + digits + `,"proof":"AAAA"}`,
		} {
			check(name, request{method: "POST", path: api.PathClientKey, body: body}, body)
		}
		check("revoke, a reason", request{method: "POST", path: api.PathRevoke, body: object("certificate", letters[:60_000], "reason", letters[:32])}, letters)
		check("a content type", request{method: "POST", path: api.PathCertificates, body: "{}", header: http.Header{"Content-Type": {words[:3000]}}}, words)
		check("an encoding", request{method: "POST", path: api.PathCertificates, body: "{}", header: http.Header{"Content-Encoding": {letters[:3000]}}}, letters)
		check("an etag", request{method: "GET", path: api.PathCertificates + "/x/bundle", header: http.Header{"If-None-Match": {letters[:3000]}}}, letters)
		check("a wait", request{method: "GET", path: api.PathCertificates + "/x/bundle?wait=" + digits[:3000]}, digits)
		check("a limit", request{method: "GET", path: api.PathCertificates + "?limit=" + digits[:3000]}, digits)
		check("an after", request{method: "GET", path: api.PathCertificates + "?after=" + letters[:3000]}, letters)
		check("a reason", request{method: "DELETE", path: api.PathCertificates + "/x?revoke=true&reason=" + letters[:32]}, letters)
		check("a switch", request{method: "DELETE", path: api.PathCertificates + "/x?revoke=" + letters[:3000]}, letters)
		check("an id", request{method: "GET", path: api.PathCertificates + "/" + letters[:3000]}, letters)
		check("a path", request{method: "GET", path: "/" + letters[:3000]}, letters)
		check("a path in escapes", request{method: "GET", path: "/" + url.PathEscape(words[:2000])}, words)
		check("a method", request{method: letters[:300], path: api.PathClient}, letters)
		g.unmoved(t)
	})
}
