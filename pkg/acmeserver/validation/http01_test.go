package validation_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/validation"
)

func (w *world) http01(t *testing.T, id string) error {
	t.Helper()
	return validation.HTTP01{Network: w.Network}.Validate(t.Context(), validationOf(acme.HTTP01, id))
}

// The request is the one of RFC 8555, section 8.3, and whitespace at the end of the answer
// is ignored (C23).
func TestHTTP01(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a.example.com. A 127.0.0.1")
	var host, agent atomic.Value
	w.serveHTTP(t, []string{"127.0.0.1", "::1"}, func(out http.ResponseWriter, r *http.Request) {
		host.Store(r.Host)
		agent.Store(r.UserAgent())
		correct(out, r)
		_, _ = out.Write([]byte("\r\n \t\n"))
	})
	w.UserAgent = "test/1"
	for id, want := range map[string]string{"a.example.com": "a.example.com", "127.0.0.1": "127.0.0.1", "::1": "[::1]"} {
		if err := w.http01(t, id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if host.Load() != want || agent.Load() != "test/1" {
			t.Errorf("%s: Host %q, User-Agent %q", id, host.Load(), agent.Load())
		}
	}
}

// Each wrong answer has its problem, which repeats nothing of the answer.
func TestHTTP01Wrong(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		handler    http.HandlerFunc
		kind, text string
	}{
		"status":   {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, secret, http.StatusNotFound) }, acme.Unauthorized, "status 404"},
		"status 2": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, acme.Unauthorized, "status 204"},
		"body":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(secret)) }, acme.IncorrectResponse, "not the key authorization"},
		"empty":    {func(http.ResponseWriter, *http.Request) {}, acme.IncorrectResponse, "not the key authorization"},
		"before":   {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(" " + keyAuthorization)) }, acme.IncorrectResponse, "not the key"},
		"no end": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte(strings.Repeat(secret, 100))); err != nil {
					return
				}
			}
		}, acme.IncorrectResponse, "longer"},
		"large headers": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 64<<10)) }, acme.Connection, "without an HTTP answer"},
		"no final": {func(w http.ResponseWriter, _ *http.Request) {
			for range 2000 {
				w.WriteHeader(http.StatusEarlyHints)
			}
			w.WriteHeader(http.StatusOK)
		}, acme.Connection, "without an HTTP answer"},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "500")
			_, _ = w.Write([]byte(secret))
		}, acme.Connection, "ends early"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a.example.com. A 127.0.0.1")
			w.serveHTTP(t, []string{"127.0.0.1"}, test.handler)
			wantProblem(t, w.http01(t, "a.example.com"), test.kind, test.text)
		})
	}
}

// A server that is absent, silent or speaks another protocol is a problem in time.
func TestHTTP01Connection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a.example.com. A 127.0.0.1")
	port, listeners := listen(t, "127.0.0.1")
	w.HTTPPort = port
	w.Timeout = 50 * time.Millisecond
	wantProblem(t, w.http01(t, "a.example.com"), acme.Connection, "in time") // no process accepts
	listeners[0].Close()
	w.Timeout = 20 * time.Second
	wantProblem(t, w.http01(t, "a.example.com"), acme.Connection, "refused")
	w.HTTPPort, listeners = listen(t, "127.0.0.1")
	go func() {
		conn, err := listeners[0].Accept()
		if err != nil {
			return
		}
		_, _ = conn.Write([]byte("220 " + secret + " ESMTP\r\n"))
		conn.Close()
	}()
	wantProblem(t, w.http01(t, "a.example.com"), acme.Connection, "without an HTTP answer")
}

// Redirects are followed, also to https without a valid certificate, but not for ever.
func TestHTTP01Redirects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a.example.com. A 127.0.0.1", "b.example.com. A 127.0.0.1")
	secure := httptest.NewTLSServer(http.HandlerFunc(correct))
	t.Cleanup(secure.Close)
	w.TLSPort = secure.Listener.Addr().(*net.TCPAddr).Port
	var location atomic.Value
	w.serveHTTP(t, []string{"127.0.0.1"}, func(out http.ResponseWriter, r *http.Request) {
		var left int
		if n, _ := fmt.Sscanf(r.URL.RawQuery, "left=%d", &left); n == 1 && left == 0 {
			correct(out, r)
			return
		}
		to := location.Load().(string)
		if to == "chain" {
			if r.URL.RawQuery == "" {
				left = len(r.Header.Get("User-Agent"))
			}
			to = fmt.Sprintf("%s?left=%d", r.URL.Path, left-1)
		}
		http.Redirect(out, r, to, http.StatusFound)
	})
	path := "/.well-known/acme-challenge/" + token
	for to, ok := range map[string]bool{
		"https://b.example.com" + path:                             true,
		"https://b.example.com:443" + path:                         true,
		"http://b.example.com:80" + path + "?left=0":               true,
		"//b.example.com" + path + "?left=0#fragment":              true,
		"http://user:password@b.example.com" + path + "?left=0":    true,
		"https://127.0.0.1" + path:                                 true,
		fmt.Sprintf("https://b.example.com:%d%s", w.TLSPort, path): true,
		"http://b.example.com:8080" + path:                         false,
		"http://b.example.com:22/":                                 false,
		"ftp://b.example.com" + path:                               false,
		"file:///etc/passwd":                                       false,
		"gopher://b.example.com:80/" + secret:                      false,
		"http:///":                                                 false,
		"http://[::1%25eth0]/":                                     false,
		"http://b\u00fccher.example.com/":                          false,
		"http:b.example.com":                                       false,
		"":                                                         false,
		"http://missing.example.com/" + secret:                     false,
		"https://b.example.com/" + secret:                          false,
		"http://a.example.com/again" /* in a circle */ :            false,
	} {
		location.Store(to)
		if err := w.http01(t, "a.example.com"); (err == nil) != ok {
			t.Errorf("%q: %v", to, err)
		} else if !ok {
			wantProblem(t, err, problemType(err), "redirect")
		}
	}
	location.Store("chain")
	for hops, ok := range map[int]bool{1: true, 10: true, 11: false, 100: false} {
		w.UserAgent = strings.Repeat("x", hops)
		if err := w.http01(t, "a.example.com"); (err == nil) != ok {
			t.Errorf("%d redirects: %v", hops, err)
		}
	}
}

// No redirect and no name leads to an address that is not allowed (SSRF).
func TestHTTP01Forbidden(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a.example.com. A 127.0.0.1", "inside.example.com. A 127.0.0.99", "both.example.com. A 127.0.0.99", "both.example.com. A 127.0.0.1",
		"mapped.example.com. AAAA ::ffff:127.0.0.99", "alias.example.com. CNAME inside.example.com.")
	var called atomic.Int32
	var location atomic.Value
	w.serveHTTP(t, []string{"127.0.0.99", "127.0.0.1"}, count(&called), func(out http.ResponseWriter, r *http.Request) {
		if to := location.Load().(string); to != "" {
			http.Redirect(out, r, to, http.StatusFound)
			return
		}
		correct(out, r)
	})
	location.Store("")
	for _, name := range []string{"inside.example.com", "mapped.example.com", "alias.example.com"} {
		wantProblem(t, w.http01(t, name), acme.DNS, "that this server connects to")
	}
	for _, addr := range []string{"127.0.0.99", "::ffff:127.0.0.99", "169.254.169.254", "10.0.0.1", "0.0.0.0", "::"} {
		wantProblem(t, w.http01(t, addr), acme.Connection, "does not connect")
	}
	if err := w.http01(t, "both.example.com"); err != nil { // the allowed one is used
		t.Error(err)
	}
	for _, host := range []string{
		"inside.example.com", "alias.example.com", "mapped.example.com", "127.0.0.99", "[::ffff:127.0.0.99]", "169.254.169.254",
		"2130706531", "0x7f000063", "0177.0.0.143", "127.0.0.99.", // other ways to write an address
	} {
		location.Store("http://" + host + "/latest/meta-data/")
		err := w.http01(t, "a.example.com")
		wantProblem(t, err, problemType(err), "after a redirect")
	}
	if n := called.Load(); n != 0 {
		t.Errorf("the forbidden server was called %d times", n)
	}
}

// IPv6 comes first. The next address is used if one accepts no connection, never after a
// wrong answer.
func TestHTTP01Addresses(t *testing.T) {
	t.Parallel()
	wrong := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(secret)) }
	records := []string{"a.example.com. A 127.0.0.1", "a.example.com. AAAA ::1"}
	t.Run("IPv6 first", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, records...)
		w.serveHTTP(t, []string{"::1", "127.0.0.1"}, correct, wrong)
		if err := w.http01(t, "a.example.com"); err != nil {
			t.Error(err)
		}
	})
	t.Run("wrong at IPv6", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, records...)
		w.serveHTTP(t, []string{"::1", "127.0.0.1"}, wrong, correct)
		wantProblem(t, w.http01(t, "a.example.com"), acme.IncorrectResponse, "")
	})
	t.Run("closed at IPv6", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, records...)
		w.serveHTTP(t, []string{"127.0.0.1"}, correct)
		if err := w.http01(t, "a.example.com"); err != nil {
			t.Error(err)
		}
	})
	t.Run("bounded", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "a.example.com. A 127.0.0.2", "a.example.com. A 127.0.0.3", "a.example.com. A 127.0.0.4", "a.example.com. A 127.0.0.1")
		w.serveHTTP(t, []string{"127.0.0.1"}, correct)
		wantProblem(t, w.http01(t, "a.example.com"), acme.Connection, "no address of the name accepts")
	})
}

// A redirect to a server with a broken handshake is a failed connection.
func TestHTTP01NoTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a.example.com. A 127.0.0.1")
	w.serveHTTP(t, []string{"127.0.0.1"}, func(out http.ResponseWriter, r *http.Request) {
		http.Redirect(out, r, "https://a.example.com/", http.StatusMovedPermanently)
	})
	w.TLSPort = w.HTTPPort
	wantProblem(t, w.http01(t, "a.example.com"), acme.Connection, "after a redirect: the connection fails")
}
