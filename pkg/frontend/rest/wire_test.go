package rest_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/rawhttp"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// raw sends bytes as they are over the caller's TLS connection and reads one
// answer. With cut the client ends its half of the connection.
func (c *caller) raw(t *testing.T, text string, cut bool) response {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(c.url, "https://"), &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{*c.key},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	if cut {
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	resp, body := rawhttp.Answer(t, conn, text)
	return response{resp.StatusCode, resp.Proto, resp.Header, body}
}

// enrolled is a proxy under attack by one of its own clients.
func enrolled(t *testing.T, version string) (*target, *caller) {
	t.Helper()
	p := proxytest.Start(t, proxytest.Options{})
	c := newCaller(t, p, version, "")
	c.enroll(t, p, "web1", proxytest.Grant(clients.ModeGateway, "**.a.example.com"), proxytest.Grant(clients.ModeAgent, "**.a.example.com"))
	return attack(t, p), c
}

// There is one way to write each path. All others lead nowhere, past no
// authentication, and are not repeated.
func TestPaths(t *testing.T) {
	t.Parallel()
	g, c := enrolled(t, "http/1.1")
	stranger := newCaller(t, g.Proxy, "http/1.1", "")
	for _, path := range []string{
		"//v1/certificates", "/v1//certificates", "/v1/certificates/", "/v1/./certificates", "/v1/x/../certificates", "/x/../v1/client",
		"/V1/certificates", "/v1/certificates/a/bundle/", "/v1/certificates/a/b/c", "/v1/certificates/a%2Fbundle", "/v1%2Fcertificates",
		"/v1/certificates/..%2f..%2fclient", "/v1/certificates;a=b", "/v1", "/v1/", "/", "/docs", "/schemas/Problem.json", "/openapi.yaml", "/admin", "/clients",
		"/health/", "/.well-known/acme-challenge/x", "/%2e%2e/v1/client", "/v1/%63lient%00", "/" + sentinel + "?a=" + sentinel, "//" + sentinel + ".example/%2e%2e",
	} {
		for name, c := range map[string]*caller{"client": c, "stranger": stranger} {
			resp := c.raw(t, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false)
			resp.refused(t, "", sentinel, http.StatusNotFound, http.StatusUnauthorized)
			if t.Failed() {
				t.Fatalf("%s: GET %s: %d %v", name, path, resp.status, resp.header)
			}
			if name == "client" && resp.status != http.StatusNotFound {
				t.Errorf("GET %s: %d", path, resp.status)
			}
		}
	}
	// What the mux takes for the same path is still behind authentication.
	for _, target := range []string{"/v1/%63ertificates", "https://elsewhere.example/v1/certificates", "/%76%31/client"} {
		resp := stranger.raw(t, "GET "+target+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false)
		resp.refused(t, "", "elsewhere", http.StatusUnauthorized)
	}
	g.unmoved(t)
}

// Methods that a path does not take.
func TestMethods(t *testing.T) {
	t.Parallel()
	g, c := enrolled(t, "http/1.1")
	for _, path := range []string{api.PathCertificates, api.PathClient, api.PathClientKey, api.PathEnroll, api.PathHealth, api.PathOpenAPI, api.PathCertificates + "/x", api.PathCertificates + "/x/bundle", api.PathCertificates + "/x/renew"} {
		for _, method := range []string{"PUT", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", sentinel} {
			resp := c.raw(t, method+" "+path+" HTTP/1.1\r\nHost: x\r\nX-Secret: "+sentinel+"\r\nConnection: close\r\n\r\n", false)
			resp.refused(t, "", sentinel, http.StatusMethodNotAllowed)
			if resp.header.Get("Allow") == "" || strings.Contains(resp.header.Get("Allow"), "TRACE") {
				t.Errorf("%s %s: Allow %q", method, path, resp.header.Get("Allow"))
			}
		}
	}
	c.raw(t, "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false).refused(t, "", "", http.StatusNotFound)
	for _, path := range []string{api.PathClient, api.PathCertificates, api.PathHealth} {
		if resp := c.raw(t, "HEAD "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false); resp.status != http.StatusOK || resp.body != "" {
			t.Errorf("HEAD %s: %d %q", path, resp.status, resp.body)
		}
	}
	if resp := newCaller(t, g.Proxy, "http/1.1", "").raw(t, "HEAD "+api.PathClient+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false); resp.status != http.StatusUnauthorized {
		t.Errorf("a stranger's HEAD: %d", resp.status)
	}
	g.unmoved(t)
}

// Bodies that are too large, of a wrong type, cut off or sent in a wrong way.
func TestBodies(t *testing.T) {
	t.Parallel()
	good := object("mode", "gateway", "names", []string{"web.a.example.com"})
	large := object("mode", "gateway", "names", []string{"web.a.example.com"}, "csr", strings.Repeat("A", api.MaxRequest))
	both(t, func(t *testing.T, version string) {
		g, c := enrolled(t, version)
		for _, path := range []string{api.PathCertificates, api.PathEnroll, api.PathClientKey} {
			c.do(t, request{method: "POST", path: path, body: large}).refused(t, "body", "", http.StatusRequestEntityTooLarge)
			for _, contentType := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/cbor", sentinel} {
				c.do(t, request{method: "POST", path: path, body: good, header: http.Header{"Content-Type": {contentType}}}).
					refused(t, "", "web.a.example.com", http.StatusUnsupportedMediaType)
			}
			c.do(t, request{method: "POST", path: path, body: good, header: http.Header{"Content-Encoding": {"gzip"}}}).
				refused(t, "", "web.a.example.com", 400, 415, 422)
			c.do(t, request{method: "POST", path: path}).refused(t, "", "", 400, 422)
		}
		g.unmoved(t)
	})
	g, c := enrolled(t, "http/1.1")
	head := "POST " + api.PathCertificates + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
	c.raw(t, head+"Content-Length: 500\r\n\r\n"+good, true).refused(t, "body", "", http.StatusBadRequest)
	c.raw(t, head+"Transfer-Encoding: chunked\r\n\r\n5\r\n{\"mod\r\nxyzzy\r\n", true).refused(t, "body", "xyzzy", http.StatusBadRequest)
	c.raw(t, head+"Transfer-Encoding: chunked\r\n\r\n"+fmt.Sprintf("%x\r\n%s\r\n", len(large), large)+"0\r\n\r\n", false).refused(t, "body", "", http.StatusRequestEntityTooLarge)
	// A body where none is wanted is read, and ends in time.
	if resp := c.raw(t, "GET "+api.PathClient+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", false); resp.status != http.StatusOK {
		t.Errorf("GET with a body: %d", resp.status)
	}
	c.raw(t, "GET "+api.PathClient+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhe", true).refused(t, "body", "", http.StatusBadRequest)
	// Smuggling: net/http's own refusals, which are plain text, repeat nothing.
	for _, h := range []string{
		"Content-Length: 5\r\nContent-Length: 6\r\n", "Transfer-Encoding: " + sentinel + "\r\n", "Content-Length: " + sentinel + "\r\n",
		"X y: " + sentinel + "\r\n", "X-Big: " + strings.Repeat(sentinel, 2000) + "\r\n", "Host: " + sentinel + "\r\n",
	} {
		resp := c.raw(t, head+h+"\r\n"+good, false)
		if resp.status < 400 || resp.status == 500 || strings.Contains(resp.body, sentinel) {
			t.Errorf("%.60q: %d %s", h, resp.status, resp.body)
		}
	}
	// A client that hangs up in the middle of its body.
	conn, err := tls.Dial("tcp", strings.TrimPrefix(c.url, "https://"), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*c.key}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, head+"Content-Length: 500\r\n\r\n"+good); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	g.Stop(t) // which waits for the request
	if strings.Contains(g.Log(), "level=ERROR") || strings.Contains(g.Log(), "level=WARN msg=request") {
		t.Error("an invalid request must not be a warning for the administrator")
	}
}

// HTTP/2's limit on headers.
func TestHugeHeaders(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version string) {
		g, c := enrolled(t, version)
		resp, err := c.try(t, request{method: "GET", path: api.PathClient, header: http.Header{"X-Big": {strings.Repeat(sentinel, 100_000)}}})
		if err == nil && (resp.status != http.StatusRequestHeaderFieldsTooLarge || strings.Contains(resp.body, sentinel)) {
			t.Errorf("%d %.100s", resp.status, resp.body)
		}
		g.unmoved(t)
	})
}

// The API needs TLS 1.3 (A23). The port also speaks TLS 1.2, for the ACME door.
func TestOldAndPlain(t *testing.T) {
	t.Parallel()
	g, c := enrolled(t, "h2")
	addr := strings.TrimPrefix(c.url, "https://")
	older, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err == nil {
		older.Close()
		t.Error("TLS 1.1 is spoken")
	}
	old, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	for _, path := range []string{api.PathHealth, api.PathClient, api.PathEnroll} {
		if _, err := io.WriteString(old, "GET "+path+" HTTP/1.1\r\nHost: "+sentinel+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(old), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusUpgradeRequired || !strings.Contains(string(text), "TLS 1.3") {
			t.Errorf("%s with TLS 1.2: %d %q, %v", path, resp.StatusCode, text, err)
		}
	}
	plain, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := io.WriteString(plain, "GET /health HTTP/1.1\r\nHost: "+sentinel+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(answer), "HTTP/1.0 400 ") || strings.Contains(string(answer), "pass") || strings.Contains(string(answer), sentinel) {
		t.Errorf("plaintext: %q", answer)
	}
	g.unmoved(t)
}

// The OpenAPI document is one, and names every operation.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	c := newCaller(t, p, "h2", "")
	resp := c.do(t, request{method: "GET", path: api.PathOpenAPI})
	if resp.status != http.StatusOK || resp.header.Get("Content-Type") != api.TypeOpenAPI {
		t.Fatalf("%d %v", resp.status, resp.header)
	}
	type operation struct {
		OperationID string                     `json:"operationId"`
		Summary     string                     `json:"summary"`
		Responses   map[string]json.RawMessage `json:"responses"`
		Security    *[]map[string][]string     `json:"security"`
	}
	var doc struct {
		OpenAPI    string                          `json:"openapi"`
		Info       struct{ Title, Version string } `json:"info"`
		Paths      map[string]map[string]operation `json:"paths"`
		Components struct {
			Schemas         map[string]json.RawMessage `json:"schemas"`
			SecuritySchemes map[string]json.RawMessage `json:"securitySchemes"`
		} `json:"components"`
		Security []map[string][]string `json:"security"`
	}
	if err := json.Unmarshal([]byte(resp.body), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.") || doc.Info.Title != "acmeproxy" || doc.Info.Version != "1" {
		t.Errorf("version %q, info %+v", doc.OpenAPI, doc.Info)
	}
	var got []string
	for path, operations := range doc.Paths {
		for method, o := range operations {
			got = append(got, strings.ToUpper(method)+" "+path)
			if o.OperationID == "" || o.Summary == "" || len(o.Responses) == 0 {
				t.Errorf("%s %s: %+v", method, path, o)
			}
			_, byDefault := o.Responses["default"]
			_, listed := o.Responses["401"]
			if !byDefault && !listed && path != api.PathHealth {
				t.Errorf("%s %s: no word on refusals", method, path)
			}
			open := path == api.PathEnroll || path == api.PathHealth
			if isOpen := o.Security != nil && len(*o.Security) == 0; isOpen != open {
				t.Errorf("%s %s: security %v", method, path, o.Security)
			}
		}
	}
	slices.Sort(got)
	want := []string{
		"DELETE /v1/certificates/{id}", "DELETE /v1/challenges/http-01/{token}", "GET /health", "GET /v1/certificates", "GET /v1/certificates/{id}", "GET /v1/certificates/{id}/bundle",
		"GET /v1/client", "POST /v1/certificates", "POST /v1/certificates/revoke", "POST /v1/certificates/{id}/renew", "POST /v1/checks", "POST /v1/client/key", "POST /v1/enroll",
		"PUT /v1/challenges/http-01/{token}",
	}
	if !slices.Equal(got, want) {
		t.Errorf("operations\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(doc.Security) != 2 || len(doc.Components.SecuritySchemes) != 2 {
		t.Errorf("security %v", doc.Security)
	}
	// Every reference leads somewhere, and none out of the document.
	for rest := resp.body; ; {
		_, after, found := strings.Cut(rest, `"$ref":"`)
		if !found {
			break
		}
		ref, tail, _ := strings.Cut(after, `"`)
		name, ok := strings.CutPrefix(ref, "#/components/schemas/")
		if _, there := doc.Components.Schemas[name]; !ok || !there {
			t.Errorf("%s leads nowhere", ref)
		}
		rest = tail
	}
	text := strings.ReplaceAll(resp.body, "https://example.com/", "") // an example of a problem's type
	for _, link := range []string{"http://", "https://", "cdn", "unpkg"} {
		if strings.Contains(text, link) {
			t.Errorf("the document has %q", link)
		}
	}
}
