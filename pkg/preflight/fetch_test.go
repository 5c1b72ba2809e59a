package preflight_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/preflight"
)

// Any other answer at port 80 is distinguished from the proxy (X13).
func TestPort80(t *testing.T) {
	t.Parallel()
	page := func(status int, body string, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	redirect := func(target string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", strings.NewReplacer("HOST", r.Host, "PATH", r.URL.Path).Replace(target))
			w.WriteHeader(http.StatusFound)
		}
	}
	hangUp := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
	}
	raw := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				io.WriteString(conn, text)
				conn.Close()
			}
		}
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		verdict preflight.Verdict
		texts   []string
	}{
		"another server":    {page(200, "welcome", "Server", "nginx"), preflight.Fails, []string{"another server answers: 200", `"nginx"`, "docs/web-servers.md"}},
		"not forwarded":     {page(404, "no", "Server", "Apache"), preflight.Fails, []string{"does not know the proxy's token", "404 Not Found", `"Apache"`, "Host"}},
		"broken backend":    {page(502, "no"), preflight.Fails, []string{"502 Bad Gateway", "docs/web-servers.md"}},
		"echo of the path":  {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) }, preflight.Fails, nil},
		"refusal":           {page(403, "no", "Server", "guard"), preflight.Fails, []string{"403 Forbidden", `"guard"`, "docs/web-servers.md", "web application firewall, exempt"}},
		"page of a refusal": {page(503, "<title>Just a moment...</title>"), preflight.Fails, []string{"503", `the title "Just a moment..."`, "web application firewall, exempt"}},
		"page of a server":  {page(200, "<html><title>\n It works!\n</title>"), preflight.Fails, []string{"another server answers: 200", `the title "It works!"`}},
		"other host":        {redirect("https://www.example.test:443PATH"), preflight.Fails, []string{"redirects to another host", "www.example.test", "not followed"}},
		"circle":            {redirect("http://HOSTPATH"), preflight.Fails, []string{"in a circle"}},
		"long way":          {redirect("http://HOSTPATHx"), preflight.Fails, []string{"more than 5 times"}},
		"other port":        {redirect("http://web1.example.test:8080PATH"), preflight.Fails, []string{"80 and 443 only"}},
		"other scheme":      {redirect("ftp://web1.example.test/"), preflight.Fails, []string{"neither http nor https"}},
		"no URL":            {redirect("http://[::1"), preflight.Fails, []string{"not a URL"}},
		"look-alike":        {redirect("http://w\u0435b1.example.test/"), preflight.Fails, []string{`w\u0435b1`}},
		"hangs up":          {hangUp, preflight.Fails, []string{"ended without an answer"}},
		"not HTTP":          {raw("SSH-2.0-OpenSSH\r\n"), preflight.Fails, []string{"is not HTTP"}},
		"endless":           {page(200, strings.Repeat("body", 1<<18)), preflight.Fails, []string{"another server"}},
		"huge header":       {page(200, "body", "X-Huge", strings.Repeat("x", 1<<16)), preflight.Fails, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, startZone(t, nil, "web1.example.test. A 127.0.0.1"))
			var got atomic.Value
			w.web(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				got.Store(r.Method + " " + r.UserAgent())
				c.handler(rw, r)
			}))
			wants(t, name, only(t, w.run(t, "web1.example.test").Names[0], preflight.HTTP, "127.0.0.1"), c.verdict, c.texts...)
			if got.Load() != "GET acmeproxy-check/test" {
				t.Errorf("asked %q", got.Load())
			}
		})
	}
}

// The proxy itself is told by its token, directly and after a redirect that
// stays at the name (X13).
func TestPort80OfTheProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, startZone(t, nil, "web1.example.test. A 127.0.0.1"))
	w.web(t, w.responder)
	report := w.run(t, "web1.example.test", "127.0.0.1")
	if failing := report.Failing(); len(failing) != 0 {
		t.Errorf("failing: %v", failing)
	}
	wants(t, "a name", only(t, report.Names[0], preflight.HTTP, "127.0.0.1"), preflight.OK, "the proxy answers")
	wants(t, "an address", only(t, report.Names[1], preflight.HTTP, "127.0.0.1"), preflight.OK, "the proxy answers")
	wants(t, "an address", only(t, report.Names[1], preflight.CAA), preflight.NotChecked)

	https := httptest.NewTLSServer(w.responder)
	defer https.Close()
	w.cfg.HTTPSPort = portOf(t, https.URL)
	w.web(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "https://web1.example.test:"+strconv.Itoa(w.cfg.HTTPSPort)+r.URL.Path, http.StatusMovedPermanently)
	}))
	wants(t, "redirect", only(t, w.run(t, "web1.example.test").Names[0], preflight.HTTP), preflight.OK, "the proxy answers, redirected to", "https://web1.example.test")
	https.Close()
	wants(t, "redirect to a closed port", only(t, w.run(t, "web1.example.test").Names[0], preflight.HTTP), preflight.Fails, "refused after a redirect", "https://web1.example.test")
}

// Each address is checked for itself: of two, one may lead elsewhere (X13).
func TestEachAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, startZone(t, nil, "web1.example.test. A 127.0.0.1", "web1.example.test. A 127.0.0.2", "web1.example.test. AAAA ::1"))
	w.web(t, w.responder)
	six, err := net.Listen("tcp", net.JoinHostPort("::1", strconv.Itoa(w.cfg.HTTPPort)))
	if err != nil {
		t.Skipf("SKIP: no IPv6 on loopback: %v", err)
	}
	other := &http.Server{Handler: http.NotFoundHandler()}
	var serving sync.WaitGroup
	serving.Go(func() { _ = other.Serve(six) })
	defer serving.Wait()
	defer other.Close()
	report := w.run(t, "web1.example.test")
	r := report.Names[0]
	wants(t, "the proxy's", only(t, r, preflight.HTTP, "127.0.0.1"), preflight.OK)
	wants(t, "closed", only(t, r, preflight.HTTP, "127.0.0.2"), preflight.Fails, "connection refused", "correct DNS")
	wants(t, "another's", only(t, r, preflight.HTTP, "::1"), preflight.Fails, "does not know the proxy's token")
	if r.Verdict != preflight.Fails || fmt.Sprint(report.Failing()) != "[web1.example.test]" {
		t.Errorf("verdict %q, failing %q", r.Verdict, report.Failing())
	}
}

// A port that swallows connections costs no more than the timeout (X13).
func TestPort80Silent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, startZone(t, nil, "web1.example.test. A 127.0.0.1"))
	silent, err := net.Listen("tcp", "127.0.0.1:0") // no program accepts
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	w.cfg.HTTPPort = portOf(t, "http://"+silent.Addr().String())
	w.cfg.Timeout = 5e8
	wants(t, "silent", only(t, w.run(t, "web1.example.test").Names[0], preflight.HTTP), preflight.Fails, "no answer in time", "firewall")
}

// Many names are checked, a few at a time, each with its own verdict (X13).
func TestManyNames(t *testing.T) {
	t.Parallel()
	var records, names []string
	for i := range 40 {
		names = append(names, fmt.Sprintf("web%d.example.test", i))
		records = append(records, names[i]+". A 127.0.0.1")
	}
	w := newWorld(t, startZone(t, nil, records...))
	var now, most atomic.Int32
	publish := w.cfg.Publish
	w.cfg.Publish = func(ctx context.Context, host string) (preflight.Probe, error) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		p, err := publish(ctx, host)
		remove := p.Remove
		p.Remove = func() { now.Add(-1); remove() }
		return p, err
	}
	w.web(t, w.responder)
	for i, r := range w.run(t, names...).Names {
		if r.Name != names[i] || r.Verdict != preflight.Warning { // the address is loopback
			t.Errorf("%d: %+v", i, r)
		}
	}
	if most.Load() > 8 {
		t.Errorf("%d names at a time", most.Load())
	}
}

// Port 80 is looked at only where it decides (X13).
func TestOtherChallenges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, startZone(t, nil, "web1.example.test. A 127.0.0.1", `web1.example.test. CAA 0 issue "ca.test; validationmethods=http-01"`))
	w.web(t, http.NotFoundHandler()) // which would fail
	w.cfg.Elsewhere = "a webroot"
	r := w.run(t, "web1.example.test").Names[0]
	wants(t, "webroot", only(t, r, preflight.HTTP), preflight.NotChecked, "a webroot")
	wants(t, "webroot", only(t, r, preflight.CAA), preflight.OK)
	for _, challenge := range []string{"tls-alpn-01", "dns-01"} {
		w.cfg.Challenge = challenge
		r := w.run(t, "web1.example.test").Names[0]
		wants(t, challenge, only(t, r, preflight.HTTP), preflight.NotChecked, challenge)
		wants(t, challenge, only(t, r, preflight.CAA), preflight.Fails, "does not allow "+challenge)
	}
	// which is dns-01 by now
	wants(t, "wildcard", only(t, w.run(t, "*.example.test").Names[0], preflight.HTTP), preflight.NotChecked, "dns-01")
	w.cfg.DNS01 = false
	wants(t, "wildcard", only(t, w.run(t, "*.example.test").Names[0], preflight.HTTP), preflight.Fails, "configure a DNS provider")
	w.cfg.Elsewhere = ""
	wants(t, "address", only(t, w.run(t, "127.0.0.1").Names[0], preflight.HTTP), preflight.Fails, "404") // always by http-01
}

// A refused address is not connected to, and the report does not show it: an alias can
// lead to a name that only the proxy's resolver knows.
func TestRefusedAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, startZone(t, nil, "web1.example.test. CNAME internal.example.test.", "internal.example.test. A 127.0.0.1"))
	w.web(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a connection was made") }))
	w.cfg.Refuse = func(netip.Addr) string { return "it is internal" }
	r := w.run(t, "web1.example.test").Names[0]
	wants(t, r.Name, only(t, r, preflight.DNS), preflight.Warning, "an address that is not shown (loopback)")
	wants(t, r.Name, only(t, r, preflight.HTTP), preflight.NotChecked, "not connected to: it is internal")
	if report := fmt.Sprintf("%+v", r); strings.Contains(report, "127.0.0.1") {
		t.Errorf("the address is shown: %s", report)
	}
	// An address that is the name itself is no secret.
	r = w.run(t, "127.0.0.1").Names[0]
	wants(t, r.Name, only(t, r, preflight.DNS), preflight.Warning, "127.0.0.1 (loopback)")
}
