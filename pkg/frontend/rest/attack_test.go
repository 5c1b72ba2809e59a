package rest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// target holds a proxy under attack and its state before.
type target struct {
	*proxytest.Proxy
	rows     map[string]int
	requests int
}

func attack(t *testing.T, p *proxytest.Proxy) *target {
	t.Helper()
	return &target{p, rows(t, p), p.CA.Requests().Total()}
}

// rows counts what is stored, the audit trail and the quota excepted.
func rows(t *testing.T, p *proxytest.Proxy) map[string]int {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(p.DataDir, "acmeproxy.db")+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	n := map[string]int{}
	for _, table := range []string{"managed", "managed_names", "name_owners", "bundles", "orders", "hooks_pending", "clients", "credentials", "grants", "accounts"} {
		var count int
		if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&count); err != nil {
			t.Fatal(err)
		}
		n[table] = count
	}
	return n
}

// unmoved fails the test if something was stored or the CA got a request.
func (g *target) unmoved(t *testing.T) {
	t.Helper()
	if n := g.CA.Requests().Total(); n != g.requests {
		t.Errorf("the CA had %d requests", n-g.requests)
	}
	for table, n := range rows(t, g.Proxy) {
		if n != g.rows[table] {
			t.Errorf("table %s has %d rows, had %d", table, n, g.rows[table])
		}
	}
}

// caller is a client of the API that can send invalid requests.
type caller struct {
	http *http.Client
	url  string
	key  *tls.Certificate
}

func newCaller(t *testing.T, p *proxytest.Proxy, version string, bearer string) *caller {
	t.Helper()
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	c := &caller{url: p.URL}
	if c.key, err = cert.SelfSigned(key, "attacker"); err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{version}}
	if bearer == "" {
		cfg.Certificates = []tls.Certificate{*c.key}
	}
	transport := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: version == "h2", MaxResponseHeaderBytes: 1 << 20}
	t.Cleanup(transport.CloseIdleConnections)
	c.http = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// enroll makes a client and lets the caller be it.
func (c *caller) enroll(t *testing.T, p *proxytest.Proxy, name string, grants ...clients.Grant) {
	t.Helper()
	token := p.AddClient(t, name, grants...)
	resp := c.do(t, request{method: "POST", path: api.PathEnroll, body: enrolBody(token.Secret[:], recipient(t))})
	if resp.status != http.StatusCreated {
		t.Fatalf("enrol: %d %s", resp.status, resp.body)
	}
}

func recipient(t *testing.T) string {
	t.Helper()
	id, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id.Recipient().String()
}

func enrolBody(secret []byte, recipients ...string) string {
	return object("secret", base64.RawURLEncoding.EncodeToString(secret), "recipients", recipients)
}

// object is JSON with its members in this order, repetitions and all.
func object(members ...any) string {
	var b strings.Builder
	for i := 0; i < len(members); i += 2 {
		value, err := json.Marshal(members[i+1])
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&b, ",%q:%s", members[i], value)
	}
	return "{" + strings.TrimPrefix(b.String(), ",") + "}"
}

type request struct {
	method, path, body string
	header             http.Header
	opaque             string // the request target as it stands
}

type response struct {
	status int
	proto  string
	header http.Header
	body   string
}

func (c *caller) do(t *testing.T, r request) response {
	t.Helper()
	resp, err := c.try(t, r)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func (c *caller) try(t *testing.T, r request) (response, error) {
	t.Helper()
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(t.Context(), r.method, c.url+r.path, body)
	if err != nil {
		t.Fatal(err)
	}
	if r.opaque != "" {
		req.URL = &url.URL{Scheme: "https", Host: req.URL.Host, Opaque: r.opaque}
	}
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return response{resp.StatusCode, resp.Proto, resp.Header, string(data)}, err
}

// refused checks that an answer is a problem document (RFC 9457) of one of the
// statuses, that it names the field, and that it does not repeat the needle.
func (r response) refused(t *testing.T, field, needle string, statuses ...int) {
	t.Helper()
	ok := false
	for _, s := range statuses {
		ok = ok || r.status == s
	}
	if !ok {
		t.Errorf("status %d, want one of %v: %.300s", r.status, statuses, r.body)
	}
	if got := r.header.Get("Content-Type"); got != api.TypeProblem {
		t.Errorf("content type %q", got)
	}
	if len(r.body) > 16<<10 {
		t.Errorf("an answer of %d bytes", len(r.body))
	}
	var p api.Problem
	if err := json.Unmarshal([]byte(r.body), &p); err != nil {
		t.Fatalf("not a problem document: %v: %.300s", err, r.body)
	}
	if p.Status != r.status || p.Title == "" || p.Detail == "" {
		t.Errorf("incomplete: %+v", p)
	}
	if needle != "" && (strings.Contains(r.body, needle) || strings.Contains(fmt.Sprint(r.header), needle)) {
		t.Errorf("it repeats what was sent: %.600s", r.body)
	}
	if field == "" {
		return
	}
	for _, e := range p.Errors {
		if e.Location == field || strings.HasPrefix(e.Location, field+"[") || strings.HasPrefix(e.Location, field+".") {
			return
		}
	}
	if !strings.HasPrefix(p.Detail, strings.TrimPrefix(field, "body.")+":") {
		t.Errorf("it does not name %s: %.300s", field, r.body)
	}
}

// both runs a test over HTTP/1.1 and HTTP/2.
func both(t *testing.T, run func(t *testing.T, version string)) {
	for name, version := range map[string]string{"HTTP1": "http/1.1", "HTTP2": "h2"} {
		t.Run(name, func(t *testing.T) { run(t, version) })
	}
}

const sentinel = "XyzzyPlugh"

// csrSigned makes a CSR that is signed by RSA-PSS, which CAs refuse.
func csrSigned(t *testing.T, names []string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return csrPEM(t, &x509.CertificateRequest{DNSNames: names, SignatureAlgorithm: x509.SHA256WithRSAPSS}, key, nil)
}

// csrPEM makes a CSR; mutate may spoil it.
func csrPEM(t *testing.T, template *x509.CertificateRequest, key any, mutate func([]byte)) string {
	t.Helper()
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	if mutate != nil {
		mutate(der)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// bad are bodies of POST /v1/certificates that must change nothing.
func bad(t *testing.T) map[string]struct{ body, field, needle string } {
	t.Helper()
	type row = struct{ body, field, needle string }
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprintf("n%d.a.example.com", i)
	}
	unknown := make([]any, 0, 20_000)
	for i := range 10_000 {
		unknown = append(unknown, fmt.Sprintf("%s%d", sentinel, i), 1)
	}
	uri := &url.URL{Scheme: "https", Host: "a.example.com", Path: "/" + sentinel}
	csr := func(template *x509.CertificateRequest) string {
		return object("mode", "gateway", "csr", csrPEM(t, template, nil, nil))
	}
	names := []string{"web.a.example.com"}
	return map[string]row{
		"no mode":                      {object("names", names), "body", ""},
		"unknown mode":                 {object("mode", sentinel, "names", names), "body.mode", sentinel},
		"the proxy's own mode":         {object("mode", "client", "names", names), "body.mode", ""},
		"mode of another type":         {object("mode", 7, "names", names), "body.mode", ""},
		"mode is null":                 {object("mode", nil, "names", names), "body.mode", ""},
		"names of another type":        {object("mode", "gateway", "names", sentinel), "body.names", sentinel},
		"a name of another type":       {object("mode", "gateway", "names", []any{"web.a.example.com", 7}), "body.names", ""},
		"no names":                     {object("mode", "gateway"), "body.names", ""},
		"an empty list of names":       {object("mode", "gateway", "names", []string{}), "body.names", ""},
		"an empty name":                {object("mode", "gateway", "names", []string{""}), "body.names", ""},
		"101 names":                    {object("mode", "gateway", "names", many), "body.names", many[77]},
		"a name with NUL":              {object("mode", "gateway", "names", []string{"a\x00.a.example.com"}), "body.names", ""},
		"a name with a newline":        {object("mode", "gateway", "names", []string{"a.a.example.com\nb.a.example.com"}), "body.names", ""},
		"a name with a path":           {object("mode", "gateway", "names", []string{"../../web.a.example.com"}), "body.names", ""},
		"a name with a port":           {object("mode", "gateway", "names", []string{"web.a.example.com:443"}), "body.names", ""},
		"a name with a blank":          {object("mode", "gateway", "names", []string{" web.a.example.com"}), "body.names", ""},
		"one label":                    {object("mode", "gateway", "names", []string{"localhost"}), "body.names", ""},
		"a name that is too long":      {object("mode", "gateway", "names", []string{strings.Repeat("a.", 200) + "a.example.com"}), "body.names", ""},
		"a name of 100 KB":             {object("mode", "gateway", "names", []string{strings.Repeat(sentinel, 10_000)}), "body.names", sentinel},
		"an address with a zone":       {object("mode", "gateway", "names", []string{"fe80::1%eth0"}), "body.names", ""},
		"a name of numbers":            {object("mode", "gateway", "names", []string{"1.2.3"}), "body.names", ""},
		"unknown key type":             {object("mode", "gateway", "names", names, "key_type", "des56"), "body.key_type", ""},
		"key type of 1 KB":             {object("mode", "gateway", "names", names, "key_type", strings.Repeat(sentinel, 100)), "body.key_type", sentinel},
		"unknown field":                {object("mode", "gateway", "names", names, "admin", sentinel), "body.admin", sentinel},
		"a field twice":                {object("mode", "gateway", "names", names, "names", names), "body", ""},
		"a field twice, in two cases":  {object("mode", "gateway", "MODE", "gateway", "names", names), "body", ""},
		"a wildcard":                   {object("mode", "gateway", "names", []string{"*.a.example.com"}), "body.names", ""},
		"10000 unknown fields":         {object(append([]any{"mode", "gateway", "names", names}, unknown...)...), "body", ""},
		"an invalid CSR":               {object("mode", "gateway", "csr", sentinel), "body.csr", sentinel},
		"a private key as CSR":         {object("mode", "gateway", "csr", "-----BEGIN PRIVATE KEY-----\nWHl6enlQbHVnaA==\n-----END PRIVATE KEY-----\n"), "body.csr", "WHl6enlQbHVnaA"},
		"a CSR that is cut off":        {object("mode", "gateway", "csr", csrPEM(t, &x509.CertificateRequest{DNSNames: names}, nil, nil)[:200]), "body.csr", ""},
		"a CSR that is too large":      {object("mode", "gateway", "csr", strings.Repeat(sentinel, 10_000)), "body.csr", sentinel},
		"a CSR with a bad signature":   {object("mode", "gateway", "csr", csrPEM(t, &x509.CertificateRequest{DNSNames: names}, nil, func(der []byte) { der[len(der)-1] ^= 1 })), "body.csr", ""},
		"a CSR with other names":       {object("mode", "gateway", "names", []string{"other.a.example.com"}, "csr", csrPEM(t, &x509.CertificateRequest{DNSNames: names}, nil, nil)), "body.names", ""},
		"a CSR with another key type":  {object("mode", "gateway", "key_type", "rsa2048", "csr", csrPEM(t, &x509.CertificateRequest{DNSNames: names}, nil, nil)), "body.key_type", ""},
		"a CSR with a weak key":        {object("mode", "gateway", "csr", csrPEM(t, &x509.CertificateRequest{DNSNames: names}, weak, nil)), "body.csr", ""},
		"a CSR over P-224":             {object("mode", "gateway", "csr", csrPEM(t, &x509.CertificateRequest{DNSNames: names}, p224, nil)), "body.csr", ""},
		"a CSR without names":          {csr(&x509.CertificateRequest{}), "body.csr", ""},
		"a CSR with an e-mail address": {csr(&x509.CertificateRequest{DNSNames: names, EmailAddresses: []string{sentinel + "@a.example.com"}}), "body.csr", sentinel},
		"a CSR with a URI":             {csr(&x509.CertificateRequest{DNSNames: names, URIs: []*url.URL{uri}}), "body.csr", sentinel},
		"a CSR with 101 names":         {csr(&x509.CertificateRequest{DNSNames: many}), "body.csr", many[77]},
		"a CSR for a CA": {csr(&x509.CertificateRequest{DNSNames: names, ExtraExtensions: []pkix.Extension{
			{Id: []int{2, 5, 29, 19}, Value: []byte{0x30, 3, 1, 1, 0xff}},
		}}), "body.csr", ""},
		"a CSR with a CN outside":   {csr(&x509.CertificateRequest{Subject: pkix.Name{CommonName: "secret.example.com"}, DNSNames: names}), "body.csr", ""},
		"a CSR with a full stop":    {csr(&x509.CertificateRequest{DNSNames: []string{"web.a.example.com."}}), "body.csr", ""},
		"a CSR signed with RSA-PSS": {object("mode", "gateway", "csr", csrSigned(t, names)), "body.csr", ""},
		"no object":                 {`[]`, "body", ""},
		"null":                      {`null`, "body", ""},
		"a number":                  {`7`, "body", ""},
		"not JSON":                  {sentinel, "", sentinel},
		"two objects":               {object("mode", "gateway", "names", names) + "{}", "", ""},
		"cut off":                   {`{"mode":"gateway","names":["web.a.exam`, "", ""},
		"not UTF-8":                 {"{\"mode\":\"gateway\",\"names\":[\"\xff\xfe.a.example.com\"]}", "body.names", ""},
		"deep nesting":              {`{"mode":"gateway","names":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, "", ""},
		"deep nesting, not too deep for the decoder": {`{"mode":"gateway","names":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, "body.names", ""},
	}
}

// Bad input gets a 4xx problem that names the field, and changes nothing.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	both(t, func(t *testing.T, version string) {
		c := newCaller(t, p, version, "")
		c.enroll(t, p, "web-"+version[:2], proxytest.Grant(clients.ModeGateway, "**.a.example.com"), proxytest.Grant(clients.ModeAgent, "**.a.example.com"))
		g := attack(t, p)
		for name, row := range bad(t) {
			t.Run(name, func(t *testing.T) {
				c.do(t, request{method: "POST", path: api.PathCertificates, body: row.body}).refused(t, row.field, row.needle, 400, 422)
				agent := strings.Replace(row.body, `"gateway"`, `"agent"`, 1)
				c.do(t, request{method: "POST", path: api.PathCertificates, body: agent}).refused(t, row.field, row.needle, 400, 422)
			})
		}
		g.unmoved(t)
	})
}

// A well-formed request without a grant is a 403, in every spelling (A22).
func TestNotGranted(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	c := newCaller(t, p, "h2", "")
	c.enroll(t, p, "web1", proxytest.Grant(clients.ModeGateway, "web1.example.com", "*.apps.example.com"))
	g := attack(t, p)
	ip := &x509.CertificateRequest{DNSNames: []string{"web1.example.com"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}
	cn := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "secret.example.com"}}
	both := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "secret.example.com"}, DNSNames: []string{"web1.example.com", "secret.example.com"}}
	for name, row := range map[string]struct{ body, field string }{
		"another name":                   {object("mode", "gateway", "names", []string{"web2.example.com"}), "body.names"},
		"one of two":                     {object("mode", "gateway", "names", []string{"web1.example.com", "web2.example.com"}), "body.names"},
		"in capitals":                    {object("mode", "gateway", "names", []string{"WEB2.Example.COM"}), "body.names"},
		"with a final dot":               {object("mode", "gateway", "names", []string{"web2.example.com."}), "body.names"},
		"in full width":                  {object("mode", "gateway", "names", []string{"web2．example．com"}), "body.names"},
		"IDNA":                           {object("mode", "gateway", "names", []string{"bücher.example.com"}), "body.names"},
		"a look-alike":                   {object("mode", "gateway", "names", []string{"wеb1.example.com"}), "body.names"}, // Cyrillic е
		"two labels below":               {object("mode", "gateway", "names", []string{"a.b.apps.example.com"}), "body.names"},
		"an address":                     {object("mode", "gateway", "names", []string{"192.0.2.1"}), "body.names"},
		"an address in IPv6":             {object("mode", "gateway", "names", []string{"::ffff:192.0.2.1"}), "body.names"},
		"another mode":                   {object("mode", "agent", "names", []string{"web1.example.com"}), "body.mode"},
		"an address beside the name":     {object("mode", "gateway", "csr", csrPEM(t, ip, nil, nil)), "body.names"},
		"in the common name":             {object("mode", "gateway", "csr", csrPEM(t, cn, nil, nil)), "body.names"},
		"in the common name beside":      {object("mode", "gateway", "csr", csrPEM(t, both, nil, nil)), "body.names"},
		"a CSR whose names are repeated": {object("mode", "gateway", "names", []string{"secret.example.com", "web1.example.com"}, "csr", csrPEM(t, both, nil, nil)), "body.names"},
	} {
		t.Run(name, func(t *testing.T) {
			c.do(t, request{method: "POST", path: api.PathCertificates, body: row.body}).refused(t, row.field, "", http.StatusForbidden)
		})
	}
	g.unmoved(t)
}

// Only the one credential of a client opens anything (A21), and a stranger's
// header, method or path does not help.
func TestCredentials(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	token := p.Bearer(t, "script", proxytest.Grant(clients.ModeGateway, "**.a.example.com"))
	other := p.Bearer(t, "other", proxytest.Grant(clients.ModeGateway, "**.b.example.com"))
	both(t, func(t *testing.T, version string) {
		g := attack(t, p)
		stranger := newCaller(t, p, version, "")
		damaged := token[:len(token)-1] + "A"
		if damaged == token {
			damaged = token[:len(token)-1] + "B"
		}
		for name, h := range map[string]http.Header{
			"none":                {},
			"a damaged token":     {"Authorization": {"Bearer " + damaged}},
			"a token cut off":     {"Authorization": {"Bearer " + token[:20]}},
			"another scheme":      {"Authorization": {"Basic " + token}},
			"without a scheme":    {"Authorization": {token}},
			"two tokens":          {"Authorization": {"Bearer " + token, "Bearer " + other}},
			"in another header":   {"X-Authorization": {"Bearer " + token}, "X-Forwarded-Client-Cert": {"Hash=1"}, "X-Forwarded-For": {"127.0.0.1"}},
			"a token of 7 KB":     {"Authorization": {"Bearer apt1-" + strings.Repeat("A", 7000)}},
			"an enrolment secret": {"Authorization": {"Bearer apx1-AAAA"}},
		} {
			t.Run(name, func(t *testing.T) {
				for _, r := range []request{
					{method: "GET", path: api.PathClient},
					{method: "GET", path: api.PathCertificates},
					{method: "GET", path: api.PathCertificates + "/x/bundle?wait=60s"},
					{method: "POST", path: api.PathCertificates, body: object("mode", "gateway", "names", []string{"web.a.example.com"})},
					{method: "DELETE", path: api.PathCertificates + "/x"},
					{method: "PUT", path: api.PathCertificates},
					{method: "GET", path: "/v1/nothing"},
				} {
					r.header = h
					resp := stranger.do(t, r)
					resp.refused(t, "", token[5:20], http.StatusUnauthorized)
					if resp.header.Get("Www-Authenticate") == "" {
						t.Error("no WWW-Authenticate")
					}
				}
			})
		}
		g.unmoved(t)
		// Both credentials: the handshake's key counts, if it is a client's.
		c := newCaller(t, p, version, "")
		c.enroll(t, p, "key-"+version[:2], proxytest.Grant(clients.ModeGateway, "**.c.example.com"))
		g = attack(t, p)
		header := http.Header{"Authorization": {"Bearer " + token}}
		if resp := c.do(t, request{method: "GET", path: api.PathClient, header: header}); !strings.Contains(resp.body, `"key-`) {
			t.Errorf("with both: %d %s", resp.status, resp.body)
		}
		body := object("mode", "gateway", "names", []string{"web.a.example.com"})
		c.do(t, request{method: "POST", path: api.PathCertificates, header: header, body: body}).refused(t, "body.names", "", http.StatusForbidden)
		if resp := stranger.do(t, request{method: "GET", path: api.PathClient, header: header}); !strings.Contains(resp.body, `"script"`) {
			t.Errorf("a stranger's key and a good token: %d %s", resp.status, resp.body)
		}
		g.unmoved(t)
	})
}

// Another client's certificate is a 403 at every operation (A26), one that does
// not exist a 404, and tricks with the path reach neither.
func TestOthersCertificates(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	owner := newCaller(t, p, "h2", "")
	owner.enroll(t, p, "owner", proxytest.Grant(clients.ModeAgent, "**.a.example.com"))
	resp := owner.do(t, request{method: "POST", path: api.PathCertificates, body: object("mode", "agent", "names", []string{"web.a.example.com"})})
	var mine api.Certificate
	if err := json.Unmarshal([]byte(resp.body), &mine); err != nil || resp.status != http.StatusAccepted || resp.header.Get("Location") != api.PathCertificates+"/"+mine.ID {
		t.Fatalf("%d %s", resp.status, resp.body)
	}
	path := api.PathCertificates + "/" + mine.ID
	if resp := owner.do(t, request{method: "GET", path: path + "/bundle?wait=60s"}); resp.status != http.StatusOK {
		t.Fatalf("%d %s", resp.status, resp.body)
	}
	both(t, func(t *testing.T, version string) {
		thief := newCaller(t, p, version, "")
		thief.enroll(t, p, "thief-"+version[:2], proxytest.Grant(clients.ModeAgent, "**.a.example.com"))
		g := attack(t, p)
		for _, r := range []request{
			{method: "GET", path: path},
			{method: "HEAD", path: path},
			{method: "GET", path: path + "/bundle"},
			{method: "GET", path: path + "/bundle?wait=60s"},
			{method: "POST", path: path + "/renew"},
			{method: "DELETE", path: path},
		} {
			if resp := thief.do(t, r); r.method == "HEAD" {
				if resp.status != http.StatusForbidden || resp.body != "" {
					t.Errorf("%s: %d", r.method, resp.status)
				}
			} else {
				resp.refused(t, "path.id", mine.ID, http.StatusForbidden)
			}
		}
		// The name is the owner's (A24).
		thief.do(t, request{method: "POST", path: api.PathCertificates, body: object("mode", "agent", "names", []string{"web.a.example.com", "new.a.example.com"})}).
			refused(t, "body.names", "owner", http.StatusConflict)
		for _, id := range []string{"nothing", "%00", "%27%20OR%201=1--", strings.Repeat("a", 64), "%F0%9F%A6%86"} {
			thief.do(t, request{method: "GET", path: api.PathCertificates + "/" + id}).refused(t, "", "OR 1=1", http.StatusNotFound)
			thief.do(t, request{method: "GET", path: api.PathCertificates + "/" + id + "/bundle?wait=0s"}).refused(t, "", "", http.StatusNotFound)
			thief.do(t, request{method: "DELETE", path: api.PathCertificates + "/" + id}).refused(t, "", "", http.StatusNotFound)
		}
		thief.do(t, request{method: "GET", path: api.PathCertificates + "/" + strings.Repeat("a", 65)}).refused(t, "path.id", "", http.StatusUnprocessableEntity)
		// No value of ?after returns rows of others.
		for _, after := range []string{"", "0", "'%20OR%20''='", "zzzz", "%25", mine.ID} {
			resp := thief.do(t, request{method: "GET", path: api.PathCertificates + "?after=" + after})
			if resp.status != http.StatusOK || !strings.Contains(resp.body, `"certificates":[]`) {
				t.Errorf("after %q: %d %s", after, resp.status, resp.body)
			}
		}
		for query, field := range map[string]string{
			"after=" + strings.Repeat(sentinel, 10): "query.after",
			"after=%00":                             "query.after",
			"after=%ff":                             "query.after",
			"limit=0":                               "query.limit",
			"limit=501":                             "query.limit",
			"limit=" + sentinel:                     "query.limit",
			"limit=99999999999999999999":            "query.limit",
		} {
			thief.do(t, request{method: "GET", path: api.PathCertificates + "?" + query}).refused(t, field, sentinel, http.StatusUnprocessableEntity)
		}
		g.unmoved(t)
	})
	if resp := owner.do(t, request{method: "GET", path: path}); resp.status != http.StatusOK {
		t.Errorf("the owner's certificate afterwards: %d", resp.status)
	}
}

// The bundle's own parameters.
func TestBundleParameters(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	both(t, func(t *testing.T, version string) {
		c := newCaller(t, p, version, "")
		name := "web." + version[:2] + ".example.com"
		c.enroll(t, p, "web-"+version[:2], proxytest.Grant(clients.ModeAgent, name))
		resp := c.do(t, request{method: "POST", path: api.PathCertificates, body: object("mode", "agent", "names", []string{name})})
		var m api.Certificate
		if err := json.Unmarshal([]byte(resp.body), &m); err != nil {
			t.Fatal(err)
		}
		path := api.PathCertificates + "/" + m.ID + "/bundle"
		first := c.do(t, request{method: "GET", path: path + "?wait=60s"})
		etag := first.header.Get("ETag")
		if first.status != http.StatusOK || first.header.Get("Content-Type") != api.TypeBundle || etag == "" {
			t.Fatalf("%d %v", first.status, first.header)
		}
		g := attack(t, p)
		for _, wait := range []string{"1e9s", "61s", "-1s", "1h", "NaN", "9999999999999999h", "0x10s", sentinel, "30", "1s%00"} {
			c.do(t, request{method: "GET", path: path + "?wait=" + wait}).refused(t, "query.wait", sentinel, http.StatusUnprocessableEntity)
		}
		for value, want := range map[string]int{
			etag: 304, "W/" + etag: 304, `""`: 200, `"`: 200, "*": 200, `"x", ` + etag: 200, sentinel: 200, strings.Trim(etag, `"`): 304,
			strings.Repeat("a", 257): 422,
		} {
			resp := c.do(t, request{method: "GET", path: path, header: http.Header{"If-None-Match": {value}}})
			if resp.status != want {
				t.Errorf("If-None-Match %q: %d, want %d", value, resp.status, want)
			}
			if want == 200 && resp.body != first.body || want == 304 && resp.body != "" {
				t.Errorf("If-None-Match %q: another body", value)
			}
		}
		if resp := c.do(t, request{method: "HEAD", path: path}); resp.status != 200 || resp.body != "" || resp.header.Get("ETag") != etag {
			t.Errorf("HEAD: %d %v", resp.status, resp.header)
		}
		g.unmoved(t)
	})
}

// Enrolment takes a secret once, and a failed attempt does not spend it.
func TestEnrol(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	both(t, func(t *testing.T, version string) {
		c := newCaller(t, p, version, "")
		token := p.AddClient(t, "web-"+version[:2], proxytest.Grant(clients.ModeAgent, "a.example.com"))
		secret, good := token.Secret[:], recipient(t)
		text := base64.RawURLEncoding.EncodeToString(secret)
		g := attack(t, p)
		key := "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ"
		many := make([]string, 17)
		for i := range many {
			many[i] = good
		}
		for name, row := range map[string]struct {
			body, field string
			status      int
		}{
			"no secret":          {object("recipients", []string{good}), "body", 422},
			"an empty secret":    {object("secret", "", "recipients", []string{good}), "body.secret", 422},
			"not base64":         {object("secret", "!"+sentinel, "recipients", []string{good}), "body.secret", 422},
			"with padding":       {object("secret", text+"==", "recipients", []string{good}), "body.secret", 422},
			"a long secret":      {object("secret", strings.Repeat("A", 65), "recipients", []string{good}), "body.secret", 422},
			"another secret":     {enrolBody(bytes.Repeat([]byte{7}, 16), good), "", 401},
			"a secret cut off":   {enrolBody(secret[:15], good), "", 401},
			"a secret and more":  {enrolBody(append(bytes.Clone(secret), 0), good), "", 401},
			"no recipients":      {object("secret", text), "body", 422},
			"not a recipient":    {enrolBody(secret, good, sentinel), "body.recipients", 422},
			"a secret key":       {enrolBody(secret, key), "body.recipients", 422},
			"a plugin":           {enrolBody(secret, "age1yubikey1"+sentinel), "body.recipients", 422},
			"a recipient of two": {enrolBody(secret, good+"\n"+good), "body.recipients", 422},
			"17 recipients":      {enrolBody(secret, many...), "body.recipients", 422},
			"a client's name":    {object("secret", text, "recipients", []string{good}, "client", "other"), "body.client", 422},
		} {
			t.Run(name, func(t *testing.T) {
				resp := c.do(t, request{method: "POST", path: api.PathEnroll, body: row.body})
				resp.refused(t, row.field, sentinel, row.status)
				for _, needle := range []string{text, key[20:40]} {
					if strings.Contains(resp.body, needle) {
						t.Errorf("it repeats the secret: %s", resp.body)
					}
				}
			})
		}
		keyless := newCaller(t, p, version, "none")
		keyless.do(t, request{method: "POST", path: api.PathEnroll, body: enrolBody(secret, good)}).refused(t, "", text, http.StatusBadRequest)
		for _, method := range []string{"GET", "PUT", "DELETE", "PATCH"} {
			resp := c.do(t, request{method: method, path: api.PathEnroll})
			resp.refused(t, "", "", http.StatusMethodNotAllowed)
			if resp.header.Get("Allow") == "" {
				t.Error("no Allow")
			}
		}
		g.unmoved(t)
		// The token still works after all that, once; the same key may repeat.
		for range 2 {
			if resp := c.do(t, request{method: "POST", path: api.PathEnroll, body: enrolBody(secret, good)}); resp.status != http.StatusCreated {
				t.Fatalf("%d %s", resp.status, resp.body)
			}
		}
		thief := newCaller(t, p, version, "")
		thief.do(t, request{method: "POST", path: api.PathEnroll, body: enrolBody(secret, recipient(t))}).refused(t, "", text, http.StatusUnauthorized)
		// A key is one client's: another token does not make it two clients'.
		second := p.AddClient(t, "second-"+version[:2], proxytest.Grant(clients.ModeAgent, "b.example.com"))
		c.do(t, request{method: "POST", path: api.PathEnroll, body: enrolBody(second.Secret[:], good)}).refused(t, "", "", http.StatusConflict)
		// Repetitions add recipients up to the bound of what can be sealed.
		for _, n := range []int{16, 16, 16, 15} {
			more := make([]string, n)
			for i := range more {
				more[i] = recipient(t)
			}
			if resp := c.do(t, request{method: "POST", path: api.PathEnroll, body: enrolBody(secret, more...)}); resp.status != http.StatusCreated {
				t.Fatalf("%d %s", resp.status, resp.body)
			}
		}
		c.do(t, request{method: "POST", path: api.PathEnroll, body: enrolBody(secret, recipient(t))}).refused(t, "body.recipients", "", http.StatusUnprocessableEntity)
		if strings.Contains(p.Log(), text) {
			t.Error("the secret is in the log")
		}
	})
}

// An expired token is refused.
func TestEnrolExpired(t *testing.T) {
	t.Parallel()
	var now clock
	p := proxytest.Start(t, proxytest.Options{Change: now.set})
	c := newCaller(t, p, "h2", "")
	token := p.AddClient(t, "web1", proxytest.Grant(clients.ModeAgent, "a.example.com"))
	now.advance(25 * 60 * 60)
	g := attack(t, p)
	c.do(t, request{method: "POST", path: api.PathEnroll, body: enrolBody(token.Secret[:], recipient(t))}).refused(t, "", "", http.StatusUnauthorized)
	g.unmoved(t)
}

// A client that was disabled or removed is out at its next request.
func TestLockedOut(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	c := newCaller(t, p, "h2", "")
	c.enroll(t, p, "web1", proxytest.Grant(clients.ModeGateway, "**.a.example.com"))
	ask := request{method: "POST", path: api.PathCertificates, body: object("mode", "gateway", "names", []string{"web.a.example.com"})}
	if _, err := p.Admin.SetDisabled(t.Context(), "web1", true); err != nil {
		t.Fatal(err)
	}
	g := attack(t, p)
	c.do(t, ask).refused(t, "", "web1", http.StatusUnauthorized)
	g.unmoved(t)
	if _, err := p.Admin.RemoveClient(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	g = attack(t, p)
	c.do(t, ask).refused(t, "", "web1", http.StatusUnauthorized)
	g.unmoved(t)
}

var _ = managed.ErrNotFound // its import registers the driver
