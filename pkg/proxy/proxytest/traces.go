package proxytest

import (
	"bytes"
	"encoding/hex"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// Walk reads every file below a folder, including the database's WAL. It reads that first:
// what a checkpoint moves meanwhile is in both files, and lost in neither.
func Walk(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	var logs, others []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || !d.Type().IsRegular():
			return err
		case strings.HasSuffix(path, "-wal"):
			logs = append(logs, path)
		default:
			others = append(others, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, path := range append(logs, others...) {
		if files[path], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// Traces holds byte strings to search for, by their description.
type Traces map[string][]byte

// Add adds text. The search ignores its case.
func (s Traces) Add(what, text string) { s[what] = lower([]byte(text)) }

// Certificate adds everything that identifies a certificate.
func (s Traces) Certificate(t testing.TB, what string, b *cert.Bundle) {
	t.Helper()
	s.Add(what+": serial, hex", b.Serial())
	s.Add(what+": serial, hex of whole bytes", hex.EncodeToString(b.Leaf.SerialNumber.Bytes()))
	s.Add(what+": serial, decimal", b.Leaf.SerialNumber.String())
	s[what+": serial, bytes"] = b.Leaf.SerialNumber.Bytes()
	s[what+": public key"] = b.Leaf.RawSubjectPublicKeyInfo
	s[what+": signature"] = b.Leaf.Signature
	s.Lines(what+": certificate", b.LeafPEM())
	if b.Key == nil {
		return
	}
	pem, err := b.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	s.Lines(what+": key", pem)
}

// Lines adds the lines of a PEM block between its first and its last.
func (s Traces) Lines(what string, pem []byte) {
	lines := strings.Split(strings.TrimSpace(string(pem)), "\n")
	for _, line := range lines[1 : len(lines)-1] {
		if len(line) >= 16 { // a short last line could occur elsewhere by chance
			s[what+" "+line] = []byte(line)
		}
	}
}

// lower converts ASCII only; bytes.ToLower would change invalid UTF-8.
func lower(data []byte) []byte {
	out := bytes.Clone(data)
	for i, c := range out {
		if 'A' <= c && c <= 'Z' {
			out[i] = c + 'a' - 'A'
		}
	}
	return out
}

// In returns where each of the traces is found, as "what in where".
func (s Traces) In(files map[string][]byte) (found []string) {
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

// Everything returns all that the proxy has written: its files and its log.
func (p *Proxy) Everything(t testing.TB) map[string][]byte {
	t.Helper()
	files := Walk(t, p.DataDir)
	files["log"] = []byte(p.Log())
	if len(files["log"]) == 0 {
		t.Fatal("the log is empty")
	}
	return files
}

// Witness records the tokens, the key authorizations at port 80 and the URLs of one
// issuance between the proxy and Pebble.
type Witness struct {
	port80 func(host, token string) (int, string)

	mu                sync.Mutex        // guards the rest
	hosts             map[string]string // by token
	keyAuthorizations map[string]string // by token
	urls              []string          // of orders, authorizations, challenges
}

// NewWitness returns an empty witness. Call Watch before the CA validates a name.
func NewWitness() *Witness {
	return &Witness{hosts: map[string]string{}, keyAuthorizations: map[string]string{}}
}

var (
	tokenPattern = regexp.MustCompile(`"token": *"([^"]+)"`)
	hostPattern  = regexp.MustCompile(`"value": *"([^"]+)"`)
)

// Wrap records the CA's requests and answers. Use it as pebbletest.Options.Wrap.
func (w *Witness) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		if pebbletest.Kind(r) == pebbletest.Challenge {
			w.FetchAll() // the answer is published by now
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

func (w *Witness) note(r *http.Request, rec *httptest.ResponseRecorder) {
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

// FetchAll requests all recorded tokens from port 80, and returns how many of them it
// has answered so far.
func (w *Witness) FetchAll() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for token, host := range w.hosts {
		if status, body := w.port80(host, token); status == http.StatusOK {
			w.keyAuthorizations[token] = body
		}
	}
	return len(w.keyAuthorizations)
}

// Hosts returns the names that were validated, by token.
func (w *Witness) Hosts() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.hosts)
}

// Watch sets the proxy to whose port 80 FetchAll connects.
func (w *Witness) Watch(t testing.TB, p *Proxy) {
	addr := p.HTTPAddr()
	w.port80 = func(host, token string) (int, string) { return AnswerAt(t, addr, host, token) }
}

// Traces returns everything that was recorded.
func (w *Witness) Traces(t testing.TB) Traces {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	s := Traces{}
	if len(w.hosts) == 0 || len(w.urls) == 0 || len(w.keyAuthorizations) == 0 {
		t.Fatalf("seen %d tokens, %d URLs, %d key authorizations", len(w.hosts), len(w.urls), len(w.keyAuthorizations))
	}
	for token, host := range w.hosts {
		s.Add("token for "+host, token)
	}
	for token, keyAuthorization := range w.keyAuthorizations {
		if !strings.HasPrefix(keyAuthorization, token+".") {
			t.Fatalf("key authorization %q of token %q", keyAuthorization, token)
		}
		s.Add("key authorization for "+w.hosts[token], keyAuthorization)
	}
	for _, url := range w.urls {
		s.Add("URL "+url, url)
	}
	return s
}

// AnswerAt requests a token from port 80 at addr, as a CA does.
func AnswerAt(t testing.TB, addr, host, token string) (status int, body string) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/.well-known/acme-challenge/"+token, http.NoBody)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	req.Host = host
	resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
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
