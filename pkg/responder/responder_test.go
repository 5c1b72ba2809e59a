package responder_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/rawhttp"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

const (
	prefix  = "/.well-known/acme-challenge/"
	token   = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
	keyAuth = token + ".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
)

// ask sends one request unchanged over a real connection.
func ask(t *testing.T, r *responder.Responder, request string) (*http.Response, string) {
	t.Helper()
	s := httptest.NewServer(r)
	defer s.Close()
	return rawhttp.Ask(t, s.Listener.Addr().String(), request)
}

func get(t *testing.T, r *responder.Responder, host, path string) (int, string) {
	t.Helper()
	resp, body := ask(t, r, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
	return resp.StatusCode, body
}

func fetched(a *responder.Answer) bool {
	select {
	case <-a.Fetched():
		return true
	default:
		return false
	}
}

func TestAnswer(t *testing.T) { // A2, A3
	r := responder.New()
	if code, _ := get(t, r, "foo.example.com", prefix+token); code != 404 {
		t.Errorf("before Put: %d", code)
	}
	a := r.Put("foo.example.com", token, keyAuth)
	if fetched(a) || r.Len() != 1 {
		t.Errorf("fetched %v, %d answers", fetched(a), r.Len())
	}
	resp, body := ask(t, r, "GET "+prefix+token+" HTTP/1.1\r\nHost: foo.example.com\r\n\r\n")
	if resp.StatusCode != http.StatusOK || body != keyAuth || resp.ContentLength != int64(len(keyAuth)) || resp.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("%d %q %v", resp.StatusCode, body, resp.Header)
	}
	if !fetched(a) {
		t.Error("the fetch was not noted")
	}
	if code, body := get(t, r, "foo.example.com", prefix+token); code != 200 || body != keyAuth { // from another place
		t.Errorf("second fetch: %d %q", code, body)
	}
	a.Remove()
	a.Remove()
	if code, body := get(t, r, "foo.example.com", prefix+token); code != 404 || body != "not found\n" || r.Len() != 0 {
		t.Errorf("after Remove: %d %q, %d answers", code, body, r.Len())
	}
}

// The host's port, case, last full stop and spelling of an address are ignored, in
// the request and in Put.
func TestHosts(t *testing.T) { // A4
	for put, hosts := range map[string][]string{
		"foo.example.com": {"foo.example.com", "FOO.Example.Com", "foo.example.com:80", "FOO.example.com:80", "foo.example.com.", "foo.example.com.:8080", "foo.example.com:"},
		"Foo.Example.com": {"foo.example.com"},
		"192.0.2.1":       {"192.0.2.1", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"},
		"2001:db8::1":     {"[2001:db8::1]", "[2001:db8::1]:80", "[2001:DB8:0:0::1]:5002"},
		"2001:DB8:0:0::a": {"[2001:db8::a]"},
	} {
		r := responder.New()
		a := r.Put(put, token, keyAuth)
		for _, host := range hosts {
			if code, body := get(t, r, host, prefix+token); code != 200 || body != keyAuth {
				t.Errorf("put %s, asked %s: %d %q", put, host, code, body)
			}
		}
		if a.Remove(); r.Len() != 0 {
			t.Errorf("%s: not removed", put)
		}
	}
}

// Requests for other than exact pairs get a 404 that repeats nothing of the request.
func TestNotFound(t *testing.T) { // A3
	r := responder.New()
	a := r.Put("foo.example.com", token, keyAuth)
	r.Put("2001:db8::1", token, keyAuth)
	const marker = "MaRkEr"
	request := func(method, path, host string) string {
		return method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\nUser-Agent: " + marker + "\r\nContent-Length: 6\r\n\r\n" + marker
	}
	good := prefix + token
	for name, text := range map[string]string{
		"wrong host":          request("GET", good, marker+".example.com"),
		"subdomain":           request("GET", good, "a.foo.example.com"),
		"parent":              request("GET", good, "example.com"),
		"host with user":      request("GET", good, "x@foo.example.com"),
		"two stops":           request("GET", good, "foo.example.com.."),
		"other address":       request("GET", good, "[2001:db8::2]"),
		"address with zone":   request("GET", good, "[2001:db8::1%25eth0]"),
		"empty host":          request("GET", good, ""),
		"no host":             "GET " + good + " HTTP/1.0\r\n\r\n",
		"wrong token":         request("GET", prefix+marker, "foo.example.com"),
		"no token":            request("GET", prefix, "foo.example.com"),
		"token's beginning":   request("GET", good[:len(good)-1], "foo.example.com"),
		"more than the token": request("GET", good+"x", "foo.example.com"),
		"token in upper case": request("GET", prefix+strings.ToUpper(token), "foo.example.com"),
		"key authorization":   request("GET", prefix+keyAuth, "foo.example.com"),
		"trailing slash":      request("GET", good+"/", "foo.example.com"),
		"doubled slash":       request("GET", "//.well-known/acme-challenge/"+token, "foo.example.com"),
		"doubled inner slash": request("GET", prefix+"/"+token, "foo.example.com"),
		"dots":                request("GET", "/x/.."+good, "foo.example.com"),
		"dots before token":   request("GET", prefix+"x/../"+token, "foo.example.com"),
		"encoded dots":        request("GET", "/%2e%2e"+good, "foo.example.com"),
		"encoded slash":       request("GET", "/.well-known%2facme-challenge/"+token+"%2f", "foo.example.com"),
		"NUL":                 request("GET", good+"%00", "foo.example.com"),
		"upper-case path":     request("GET", strings.ToUpper(prefix)+token, "foo.example.com"),
		"root":                request("GET", "/", "foo.example.com"),
		"markup":              request("GET", "/<script>"+marker, "foo.example.com"),
		"POST":                request("POST", good, "foo.example.com"),
		"PUT":                 request("PUT", good, "foo.example.com"),
		"DELETE":              request("DELETE", good, "foo.example.com"),
		"OPTIONS":             request("OPTIONS", good, "foo.example.com"),
		"OPTIONS for all":     request("OPTIONS", "*", "foo.example.com"),
		"TRACE":               request("TRACE", good, "foo.example.com"),
		"CONNECT":             request("CONNECT", "foo.example.com:80", "foo.example.com"),
		"own method":          request(marker, good, "foo.example.com"),
		"proxy request":       request("GET", "http://"+marker+good, "foo.example.com"),
		"HEAD of another":     request("HEAD", prefix+marker, "foo.example.com"),
	} {
		resp, body := ask(t, r, text)
		// net/http itself answers some: malformed hosts with 400, OPTIONS * with 200.
		if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusBadRequest && name != "OPTIONS for all" {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
		var all strings.Builder
		if err := resp.Header.Write(&all); err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{marker, token, "example.com", "script"} {
			if strings.Contains(strings.ToLower(all.String()+body), strings.ToLower(part)) {
				t.Errorf("%s: %q comes back: %v %q", name, part, resp.Header, body)
			}
		}
	}
	if fetched(a) {
		t.Error("something counted as the CA's fetch")
	}
	// The same pair, in another spelling that HTTP allows.
	for name, text := range map[string]string{
		"query":         request("GET", good+"?x=/../"+marker, "foo.example.com"),
		"encoded token": request("GET", prefix+"%65"+token[1:], "foo.example.com"),
		"absolute form": request("GET", "http://foo.example.com:80"+good, marker),
	} {
		if resp, body := ask(t, r, text); resp.StatusCode != http.StatusOK || body != keyAuth {
			t.Errorf("%s: %d %q", name, resp.StatusCode, body)
		}
	}
}

// HEAD returns the length of the answer. Only GET counts as the CA's fetch.
func TestHead(t *testing.T) {
	r := responder.New()
	a := r.Put("foo.example.com", token, keyAuth)
	resp, body := ask(t, r, "HEAD "+prefix+token+" HTTP/1.1\r\nHost: foo.example.com\r\n\r\n")
	if resp.StatusCode != http.StatusOK || body != "" || resp.ContentLength != int64(len(keyAuth)) || fetched(a) {
		t.Errorf("%d %q, length %d, fetched %v", resp.StatusCode, body, resp.ContentLength, fetched(a))
	}
}

// Two orders that share an authorization publish the same pair. When one ends, the
// other's answer stays.
func TestShared(t *testing.T) {
	for name, order := range map[string][3]int{"the oldest first": {0, 1, 2}, "the newest first": {2, 1, 0}, "the middle first": {1, 2, 0}} {
		t.Run(name, func(t *testing.T) {
			r := responder.New()
			var answers []*responder.Answer
			for range order {
				answers = append(answers, r.Put("foo.example.com", token, keyAuth))
			}
			for _, i := range order {
				if code, body := get(t, r, "foo.example.com", prefix+token); code != 200 || body != keyAuth {
					t.Errorf("before the end of %d: %d %q", i, code, body)
				}
				answers[i].Remove()
				answers[i].Remove()
			}
			if code, _ := get(t, r, "foo.example.com", prefix+token); code != 404 || r.Len() != 0 {
				t.Errorf("%d, %d answers", code, r.Len())
			}
		})
	}
}

// A second Put of a pair hides the first. Removing the first does not remove it.
func TestReplace(t *testing.T) {
	r := responder.New()
	first := r.Put("foo.example.com", token, keyAuth)
	second := r.Put("foo.example.com", token, keyAuth+"2")
	first.Remove()
	if code, body := get(t, r, "foo.example.com", prefix+token); code != 200 || body != keyAuth+"2" || r.Len() != 1 {
		t.Errorf("%d %q, %d answers", code, body, r.Len())
	}
	if fetched(first) || !fetched(second) {
		t.Errorf("fetched: %v and %v, want the second", fetched(first), fetched(second))
	}
}

// Tokens belong to hosts. The same token of another host has another answer.
func TestTokensAreByHost(t *testing.T) { // A43
	r := responder.New()
	r.Put("a.example.com", token, "for a")
	r.Put("b.example.com", token, "for b")
	for _, name := range []string{"a", "b"} {
		if _, body := get(t, r, name+".example.com", prefix+token); body != "for "+name {
			t.Errorf("%s: %q", name, body)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	r := responder.New()
	stay := r.Put("stay.example.com", token, keyAuth)
	var g sync.WaitGroup
	for i := range 8 {
		g.Go(func() {
			host := fmt.Sprintf("h%d.example.com", i%4)
			for range 200 {
				a := r.Put(host, token, keyAuth)
				for _, h := range []string{host, "stay.example.com"} {
					w := httptest.NewRecorder()
					r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://"+h+prefix+token, nil))
					if h != host && w.Code != 200 {
						t.Errorf("%s: %d", h, w.Code)
					}
				}
				r.Len()
				a.Remove()
			}
		})
	}
	g.Wait()
	<-stay.Fetched()
	if r.Len() != 1 {
		t.Errorf("%d answers are left, want 1", r.Len())
	}
}

// discard is a ResponseWriter that does not allocate.
type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}
func (d discard) WriteString(s string) (int, error) {
	return len(s), nil
}

// A flood of requests costs no memory, with any number of published tokens.
func TestAllocations(t *testing.T) {
	for _, answers := range []int{0, 1000} {
		r := responder.New()
		for i := range answers {
			r.Put(fmt.Sprintf("h%d.example.com", i), token, keyAuth)
		}
		w := discard{http.Header{}}
		for _, url := range []string{
			"http://foo.example.com/", "http://foo.example.com/wp-login.php", "http://foo.example.com" + prefix + token,
			"http://foo.example.com:80" + prefix + token, "http://foo.example.com" + prefix + strings.Repeat("x", 4000),
		} {
			req := httptest.NewRequest(http.MethodGet, url, nil)
			if n := testing.AllocsPerRun(100, func() { r.ServeHTTP(w, req) }); n != 0 {
				t.Errorf("%d answers: %.40s costs %v allocations, want 0", answers, url, n)
			}
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	r := responder.New()
	r.Put("foo.example.com", token, keyAuth)
	req := httptest.NewRequest(http.MethodGet, "http://foo.example.com"+prefix+token, nil)
	w := discard{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		r.ServeHTTP(w, req)
	}
}

// A lower answer is served only while there is no other of the pair, whatever the order
// in which they come (X2).
func TestPutLower(t *testing.T) {
	t.Parallel()
	r := responder.New()
	serves := func(want string) {
		t.Helper()
		status, body := get(t, r, "a.example.com", prefix+token)
		if want == "" && status != http.StatusNotFound || want != "" && (status != http.StatusOK || body != want) {
			t.Errorf("%d %q, want %q", status, body, want)
		}
	}
	low := r.PutLower("A.example.com", token, "low")
	serves("low")
	if r.Has("a.example.com", token) {
		t.Error("Has counts a lower answer")
	}
	high := r.Put("a.example.com", token, "high")
	serves("high")
	newer := r.PutLower("a.example.com", token, "newer")
	serves("high")
	if !r.Has("A.example.com:80", token) || r.Has("b.example.com", token) || r.Len() != 2 {
		t.Error("Has or Len is wrong")
	}
	high.Remove()
	serves("newer")
	if status, _ := get(t, r, "b.example.com", prefix+token); status != http.StatusNotFound {
		t.Errorf("another name: %d", status)
	}
	low.Remove()
	serves("newer")
	newer.Remove()
	newer.Remove()
	serves("")
	if r.Len() != 0 {
		t.Error("an answer is left")
	}
}
