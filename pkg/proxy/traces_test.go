package proxy_test

import (
	"bytes"
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// walk reads every file below a folder, the database's WAL included.
func walk(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		files[path] = data
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// traces are byte strings to look for, by what they are.
type traces map[string][]byte

// add adds text, which is found whatever its case.
func (s traces) add(what, text string) { s[what] = lower([]byte(text)) }

// certificate adds everything by which a certificate is known.
func (s traces) certificate(t testing.TB, what string, b *cert.Bundle) {
	t.Helper()
	s.add(what+": serial, hex", b.Serial())
	s.add(what+": serial, hex of whole bytes", hex.EncodeToString(b.Leaf.SerialNumber.Bytes()))
	s.add(what+": serial, decimal", b.Leaf.SerialNumber.String())
	s[what+": serial, bytes"] = b.Leaf.SerialNumber.Bytes()
	s[what+": public key"] = b.Leaf.RawSubjectPublicKeyInfo
	s[what+": signature"] = b.Leaf.Signature
	s.lines(what+": certificate", b.LeafPEM())
	if b.Key == nil {
		return
	}
	pem, err := b.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	s.lines(what+": key", pem)
}

// lines adds the lines of a PEM block between its first and its last.
func (s traces) lines(what string, pem []byte) {
	lines := strings.Split(strings.TrimSpace(string(pem)), "\n")
	for _, line := range lines[1 : len(lines)-1] {
		if len(line) >= 16 { // the rest at the end may be anywhere by chance
			s[what+" "+line] = []byte(line)
		}
	}
}

// lower folds ASCII only; bytes.ToLower would change what is not UTF-8.
func lower(data []byte) []byte {
	out := bytes.Clone(data)
	for i, c := range out {
		if 'A' <= c && c <= 'Z' {
			out[i] = c + 'a' - 'A'
		}
	}
	return out
}

// in returns where each of the traces is found, as "what in where".
func (s traces) in(files map[string][]byte) (found []string) {
	for where, data := range files {
		folded := lower(data)
		for what, trace := range s {
			if bytes.Contains(data, trace) || bytes.Contains(folded, trace) {
				found = append(found, what+" in "+filepath.Base(where))
			}
		}
	}
	return found
}

// everything is all that a proxy has left: its files and its log.
func everything(t testing.TB, p *proxytest.Proxy) map[string][]byte {
	t.Helper()
	files := walk(t, p.DataDir)
	files["log"] = []byte(p.Log())
	if len(files["log"]) == 0 {
		t.Fatal("the log is empty")
	}
	return files
}

// witness sees what passes between the proxy and Pebble for one issuance: the
// tokens, the key authorizations that are served at port 80, the URLs.
type witness struct {
	port80 func(host, token string) (int, string)

	mu                sync.Mutex        // guards the rest
	hosts             map[string]string // by token
	keyAuthorizations map[string]string // by token
	urls              []string          // of orders, authorizations, challenges
}

func newWitness() *witness {
	return &witness{hosts: map[string]string{}, keyAuthorizations: map[string]string{}}
}

var (
	tokenPattern = regexp.MustCompile(`"token": *"([^"]+)"`)
	hostPattern  = regexp.MustCompile(`"value": *"([^"]+)"`)
)

// wrap is for pebbletest.Options.Wrap.
func (w *witness) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		if pebbletest.Kind(r) == pebbletest.Challenge {
			w.fetchAll() // the answer is published by now
		}
		next.ServeHTTP(rec, r)
		w.note(r, rec)
		for name, values := range rec.Header() {
			rw.Header()[name] = values
		}
		rw.WriteHeader(rec.Code)
		rw.Write(rec.Body.Bytes())
	})
}

func (w *witness) note(r *http.Request, rec *httptest.ResponseRecorder) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch pebbletest.Kind(r) {
	case pebbletest.NewOrder:
		w.urls = append(w.urls, path.Base(rec.Header().Get("Location")))
	case pebbletest.Order, pebbletest.Authorization, pebbletest.Challenge, pebbletest.Certificate:
		w.urls = append(w.urls, path.Base(r.URL.Path))
	}
	if pebbletest.Kind(r) != pebbletest.Authorization {
		return
	}
	host := hostPattern.FindStringSubmatch(rec.Body.String())
	for _, token := range tokenPattern.FindAllStringSubmatch(rec.Body.String(), -1) {
		w.hosts[token[1]] = host[1]
	}
}

func (w *witness) fetchAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for token, host := range w.hosts {
		if status, body := w.port80(host, token); status == http.StatusOK {
			w.keyAuthorizations[token] = body
		}
	}
}

// watch says which proxy's port 80 to look at.
func (w *witness) watch(t testing.TB, p *proxytest.Proxy) {
	addr := p.HTTPAddr()
	w.port80 = func(host, token string) (int, string) { return answerAt(t, addr, host, token) }
}

// traces are what was seen.
func (w *witness) traces(t testing.TB) traces {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	s := traces{}
	if len(w.hosts) == 0 || len(w.urls) == 0 || len(w.keyAuthorizations) == 0 {
		t.Fatalf("seen %d tokens, %d URLs, %d key authorizations", len(w.hosts), len(w.urls), len(w.keyAuthorizations))
	}
	for token, host := range w.hosts {
		s.add("token for "+host, token)
	}
	for token, keyAuthorization := range w.keyAuthorizations {
		if !strings.HasPrefix(keyAuthorization, token+".") {
			t.Fatalf("key authorization %q of token %q", keyAuthorization, token)
		}
		s.add("key authorization for "+w.hosts[token], keyAuthorization)
	}
	for _, url := range w.urls {
		s.add("URL "+url, url)
	}
	return s
}

// answerAt asks for a token as a CA does.
func answerAt(t testing.TB, addr, host, token string) (status int, body string) {
	req := httptest.NewRequest(http.MethodGet, "http://"+addr+"/.well-known/acme-challenge/"+token, nil).WithContext(t.Context())
	req.RequestURI, req.Host = "", host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Error(err)
	}
	return resp.StatusCode, b.String()
}
