package remote

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// evil is a TLS server with the pinned key that answers as a test says.
type evil struct {
	*httptest.Server
	pin      [32]byte
	requests atomic.Int64
	mu       sync.Mutex
	mux      *http.ServeMux // guarded by mu
}

func newEvil(t *testing.T) *evil {
	t.Helper()
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := cert.SelfSigned(key, "evil")
	if err != nil {
		t.Fatal(err)
	}
	e := &evil{pin: auth.SPKIPin(pinned.Leaf), mux: http.NewServeMux()}
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.requests.Add(1)
		e.mu.Lock()
		mux := e.mux
		e.mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
	e.EnableHTTP2 = true
	e.TLS = &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{*pinned}}
	e.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	e.StartTLS()
	t.Cleanup(e.Close)
	return e
}

// on answers from now on; pattern as for http.ServeMux.
func (e *evil) on(pattern string, h http.HandlerFunc) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mux.HandleFunc(pattern, h)
}

// reset removes all answers.
func (e *evil) reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mux = http.NewServeMux()
}

func jsonAnswer(status int, v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if s, ok := v.(string); ok {
			io.WriteString(w, s)
			return
		}
		json.NewEncoder(w).Encode(v)
	}
}

// enrolled is a state directory as enrolment at e leaves it.
func (e *evil) enrolled(t *testing.T) *State {
	t.Helper()
	e.on("POST "+api.PathEnroll, jsonAnswer(201, api.Client{Name: "web1", Grants: []clients.Grant{{Names: []string{"a.example"}, Modes: []clients.Mode{clients.ModeAgent, clients.ModeGateway}}}}))
	s, err := Enroll(t.Context(), t.TempDir(), "test", auth.EnrollToken{URL: e.URL, ProxyPin: e.pin}, EnrollOptions{Timing: Timing{BetweenPolls: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func getter(t *testing.T, s *State) *Getter {
	t.Helper()
	g, err := s.Getter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func want(t *testing.T, s *State, mode clients.Mode) Wanted {
	t.Helper()
	return Wanted{Names: cert.Names{"a.example"}, Mode: mode, KeyType: cert.EC256, Out: filepath.Join(s.Dir, "out"), Hook: "echo $ACMEPROXY_SERIAL >> " + filepath.Join(s.Dir, "hook")}
}

// hooks are the serials that the hook has seen.
func hooks(t *testing.T, s *State) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.Dir, "hook"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Fields(string(data))
}

var serial atomic.Int64

type issue struct {
	key               crypto.Signer // nil: a new one, or that of public
	public            crypto.PublicKey
	names             []string
	notBefore, length time.Duration // from now; from notBefore
}

// bundle makes a self-signed one.
func (i issue) bundle(t *testing.T) *cert.Bundle {
	t.Helper()
	if i.key == nil && i.public == nil {
		var err error
		if i.key, err = cert.GenerateKey(cert.EC256); err != nil {
			t.Fatal(err)
		}
	}
	if i.public == nil {
		i.public = i.key.Public()
	}
	if i.names == nil {
		i.names = []string{"a.example"}
	}
	if i.length == 0 {
		i.length = 90 * 24 * time.Hour
	}
	from := time.Now().Add(i.notBefore).Truncate(time.Second)
	ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(0x1000 + serial.Add(1)), DNSNames: i.names, NotBefore: from, NotAfter: from.Add(i.length)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, i.public, ca)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &cert.Bundle{Key: i.key, Leaf: leaf}
}

// sealed is a bundle as the remote can open it.
func sealed(t *testing.T, s *State, b *cert.Bundle) []byte {
	t.Helper()
	id, err := seal.LoadOrCreateIdentity(filepath.Join(s.Dir, identityName))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := b.PEM()
	if err != nil {
		t.Fatal(err)
	}
	return sealTo(t, id.Recipient(), plain)
}

func sealTo(t *testing.T, to age.Recipient, plain []byte) []byte {
	t.Helper()
	ciphertext, err := seal.Seal(plain, to)
	if err != nil {
		t.Fatal(err)
	}
	return ciphertext
}

// serves makes e an agent-mode proxy with this ciphertext.
func (e *evil) serves(etag string, ciphertext []byte) {
	e.reset()
	e.on("POST "+api.PathCertificates, jsonAnswer(202, api.Certificate{ID: "id"}))
	e.on("GET "+api.PathCertificates+"/id/bundle", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", etag)
		if etag != "" && r.Header.Get("If-None-Match") == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Write(ciphertext)
	})
}

// installedIs checks that what is on the disk is b, and that the hook has seen
// these serials and no other.
func installedIs(t *testing.T, s *State, b *cert.Bundle, seen ...string) {
	t.Helper()
	have, err := certfile.Read(filepath.Join(s.Dir, "out"))
	switch {
	case b == nil && err == nil:
		t.Errorf("installed %s", have.Serial())
	case b != nil && (err != nil || !have.Leaf.Equal(b.Leaf)):
		t.Errorf("installed %v, %v; want %s", have, err, b.Serial())
	}
	if got := hooks(t, s); !slices.Equal(got, seen) {
		t.Errorf("the hook has seen %q, want %q", got, seen)
	}
}

// A server without the pinned key gets no request, so it gets no secret.
func TestWrongPin(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	before := e.requests.Load()
	token := auth.EnrollToken{URL: e.URL, ProxyPin: [32]byte{1}, Secret: [16]byte{2}}
	if _, err := Enroll(t.Context(), t.TempDir(), "test", token, EnrollOptions{}); !errors.Is(err, ErrPin) {
		t.Errorf("enrol: %v", err)
	}
	s.enrolment.Pin = strings.Repeat("00", 32)
	for _, mode := range []clients.Mode{clients.ModeAgent, clients.ModeGateway} {
		_, err := getter(t, s).Get(t.Context(), want(t, s, mode))
		if mode == clients.ModeAgent && !errors.Is(err, ErrPin) || err == nil || !strings.Contains(err.Error(), "another key than the one pinned") {
			t.Errorf("%s: %v", mode, err)
		}
	}
	if n := e.requests.Load() - before; n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
	installedIs(t, s, nil)
}

// In agent mode, what is not the certificate asked for changes no file.
func TestBadBundles(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	other := issue{}.bundle(t)
	mixed := issue{}.bundle(t)
	mixed.Key = other.Key
	keyless := issue{}.bundle(t)
	keyless.Key = nil
	unchained := issue{}.bundle(t)
	unchained.Chain = []*x509.Certificate{other.Leaf}
	bundles := map[string]struct {
		ciphertext []byte
		etag       string
		want       string
	}{
		"another name":          {sealed(t, s, issue{names: []string{"b.example"}}.bundle(t)), `"e"`, "is for b.example, not for a.example"},
		"one name more":         {sealed(t, s, issue{names: []string{"a.example", "b.example"}}.bundle(t)), `"e"`, "not for a.example"},
		"a wildcard":            {sealed(t, s, issue{names: []string{"*.example.com"}}.bundle(t)), `"e"`, "not for a.example"},
		"another key":           {sealed(t, s, mixed), `"e"`, "does not belong"},
		"no key":                {sealed(t, s, keyless), `"e"`, "has no key"},
		"a weak key":            {sealed(t, s, issue{key: weak}.bundle(t)), `"e"`, "1024 bits"},
		"an unrelated chain":    {sealed(t, s, unchained), `"e"`, "not signed by the next"},
		"expired":               {sealed(t, s, issue{notBefore: -48 * time.Hour, length: 24 * time.Hour}.bundle(t)), `"e"`, "expired at"},
		"from the future":       {sealed(t, s, issue{notBefore: 48 * time.Hour}.bundle(t)), `"e"`, "not valid before"},
		"sealed to others":      {sealTo(t, stranger.Recipient(), []byte("x")), `"e"`, "other recipients"},
		"not sealed":            {[]byte("-----BEGIN CERTIFICATE-----"), `"e"`, "cannot be opened"},
		"nothing":               {nil, `"e"`, "cannot be opened"},
		"too large":             {make([]byte, api.MaxAnswer+1), `"e"`, "larger than"},
		"no ETag":               {sealed(t, s, other), "", "ETag"},
		"an ETag of blanks":     {sealed(t, s, other), `"a b"`, "ETag"},
		"an ETag with escapes":  {sealed(t, s, other), `"a\nb"`, "ETag"},
		"an ETag without marks": {sealed(t, s, other), `e`, "ETag"},
		"an ETag of 1 KB":       {sealed(t, s, other), `"` + strings.Repeat("a", 1000) + `"`, "ETag"},
	}
	try := func(t *testing.T, installed *cert.Bundle, seen ...string) {
		for name, row := range bundles {
			t.Run(name, func(t *testing.T) {
				e.serves(row.etag, row.ciphertext)
				_, err := getter(t, s).Get(t.Context(), want(t, s, clients.ModeAgent))
				if err == nil || !strings.Contains(err.Error(), row.want) {
					t.Errorf("error %v, want %q", err, row.want)
				}
				installedIs(t, s, installed, seen...)
			})
		}
	}
	t.Run("nothing installed yet", func(t *testing.T) { try(t, nil) })
	good := issue{notBefore: -time.Minute}.bundle(t)
	e.serves(`"good"`, sealed(t, s, good))
	if _, err := getter(t, s).Get(t.Context(), want(t, s, clients.ModeAgent)); err != nil {
		t.Fatal(err)
	}
	// An older one must not take a newer one's place.
	bundles["older"] = bundles["expired"]
	older := bundles["older"]
	older.ciphertext, older.want = sealed(t, s, issue{notBefore: -time.Hour}.bundle(t)), "older certificate"
	bundles["older"] = older
	t.Run("where there is one", func(t *testing.T) { try(t, good, good.Serial()) })
	// The same one under ever new tags is no news, and runs no hook.
	for i := range 3 {
		e.serves(fmt.Sprintf(`"again%d"`, i), sealed(t, s, good))
		if _, err := getter(t, s).Get(t.Context(), want(t, s, clients.ModeAgent)); err != nil {
			t.Fatal(err)
		}
	}
	installedIs(t, s, good, good.Serial())
}

// Nothing newer than nothing is no certificate.
func TestNotModifiedAtOnce(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	e.reset()
	e.on("POST "+api.PathCertificates, jsonAnswer(202, api.Certificate{ID: "id"}))
	e.on("GET "+api.PathCertificates+"/id/bundle", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) })
	if k, err := getter(t, s).Get(t.Context(), want(t, s, clients.ModeAgent)); err == nil {
		t.Errorf("got %+v", k)
	}
	for _, id := range []string{"", strings.Repeat("a", 65), strings.Repeat("a", 1<<20)} {
		e.reset()
		e.on("POST "+api.PathCertificates, jsonAnswer(202, api.Certificate{ID: id}))
		s := e.enrolled(t)
		if _, err := getter(t, s).Get(t.Context(), want(t, s, clients.ModeAgent)); err == nil || !strings.Contains(err.Error(), "usable id") {
			t.Errorf("an id of %d bytes: %v", len(id), err)
		}
	}
	installedIs(t, s, nil)
}

// In gateway mode the key is ours, so a certificate for another one is refused.
func TestBadChains(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	var forge func(csr *cert.CSR) []byte
	e.on("POST "+api.PathCertificates, func(w http.ResponseWriter, r *http.Request) {
		var req api.CertificateRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			t.Error(err)
		}
		csr, err := cert.ParseCSR([]byte(req.CSR))
		if err != nil {
			t.Error(err)
			return
		}
		jsonAnswer(200, api.Event{Event: api.EventCertificate, Chain: string(forge(csr)), Bundle: []byte("x")})(w, r)
	})
	for name, row := range map[string]struct {
		chain func(csr *cert.CSR) []byte
		want  string
	}{
		"another key": {func(*cert.CSR) []byte { return issue{}.bundle(t).LeafPEM() }, "another key"},
		"another name": {func(c *cert.CSR) []byte {
			return issue{public: c.Public, names: []string{"b.example"}}.bundle(t).LeafPEM()
		}, "not for a.example"},
		"expired": {func(c *cert.CSR) []byte {
			return issue{public: c.Public, notBefore: -48 * time.Hour, length: time.Hour}.bundle(t).LeafPEM()
		}, "expired"},
		"a private key": {func(*cert.CSR) []byte { b := issue{}.bundle(t); k, _ := b.KeyPEM(); return k }, "no PEM certificate"},
		"nothing":       {func(*cert.CSR) []byte { return nil }, "no PEM certificate"},
		"40 of them":    {func(c *cert.CSR) []byte { return slices.Repeat(issue{public: c.Public}.bundle(t).LeafPEM(), 40) }, "more than 16"},
	} {
		t.Run(name, func(t *testing.T) {
			forge = row.chain
			if _, err := getter(t, s).Get(t.Context(), want(t, s, clients.ModeGateway)); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want %q", err, row.want)
			}
			installedIs(t, s, nil)
		})
	}
	good := &cert.Bundle{}
	forge = func(c *cert.CSR) []byte { good = issue{public: c.Public}.bundle(t); return good.LeafPEM() }
	if _, err := getter(t, s).Get(t.Context(), want(t, s, clients.ModeGateway)); err != nil {
		t.Fatal(err)
	}
	installedIs(t, s, good, good.Serial())
}

// Streams without end, without line ends, without sense and without life.
func TestBadStreams(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	client, err := s.API()
	if err != nil {
		t.Fatal(err)
	}
	released := make(chan struct{}) // handlers end with their test
	defer close(released)
	waiting := `{"event":"waiting"}` + "\n"
	endless := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := io.WriteString(w, text); err != nil {
					return
				}
			}
		}
	}
	for name, row := range map[string]struct {
		answer  http.HandlerFunc
		silence time.Duration
		want    string
	}{
		"events without end":   {endless(waiting), 0, "not a stream of events"},
		"stages without end":   {endless(`{"event":"stage","stage":"issuing"}` + "\n"), 0, "not a stream of events"},
		"a line without end":   {endless(strings.Repeat("a", 1<<16)), 0, "too long"},
		"empty lines":          {endless("\n"), 0, "not a stream of events"},
		"HTML":                 {endless("<html>\n"), 0, "not a stream of events"},
		"unknown events only":  {endless(`{"event":"` + strings.Repeat("x", 1000) + `"}` + "\n"), 0, "not a stream of events"},
		"nothing":              {func(http.ResponseWriter, *http.Request) {}, 0, "ended its answer before"},
		"an end too early":     {jsonAnswer(200, waiting+waiting), 0, "ended its answer before"},
		"half a line":          {jsonAnswer(200, `{"event":"certif`), 0, "not a stream of events"},
		"a problem without":    {jsonAnswer(200, `{"event":"problem"}`), 0, "did not say why"},
		"silence at once":      {func(_ http.ResponseWriter, r *http.Request) { wait(r, released) }, 50 * time.Millisecond, "sent nothing for 50ms"},
		"silence on the way":   {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, waiting); flush(w); wait(r, released) }, 50 * time.Millisecond, "sent nothing for 50ms"},
		"bytes, but no events": {func(w http.ResponseWriter, r *http.Request) { trickle(w, r) }, 50 * time.Millisecond, "sent nothing for 50ms"},
	} {
		t.Run(name, func(t *testing.T) {
			e.reset()
			e.on("POST "+api.PathCertificates, row.answer)
			client.timing = Timing{StreamSilence: row.silence}.withDefaults()
			_, err := client.Issue(t.Context(), cert.Request{Names: cert.Names{"a.example"}, KeyType: cert.EC256}, nil)
			var failed *acme.Error
			if !errors.As(err, &failed) || failed.Kind == acme.Permanent || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want %q", err, row.want)
			}
		})
	}
}

func wait(r *http.Request, released <-chan struct{}) {
	select {
	case <-r.Context().Done():
	case <-released:
	}
}

func flush(w http.ResponseWriter) { http.NewResponseController(w).Flush() }

// trickle sends a byte now and then, and never a line's end.
func trickle(w http.ResponseWriter, r *http.Request) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			io.WriteString(w, " ")
			flush(w)
		case <-r.Context().Done():
			return
		}
	}
}

// A redirect carries nothing anywhere.
func TestRedirects(t *testing.T) {
	e, elsewhere := newEvil(t), newEvil(t)
	s := e.enrolled(t)
	for _, status := range []int{301, 302, 303, 307, 308} {
		e.reset()
		e.on("/", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL+r.URL.Path, status) })
		for _, mode := range []clients.Mode{clients.ModeAgent, clients.ModeGateway} {
			if _, err := getter(t, s).Get(t.Context(), want(t, s, mode)); err == nil || !strings.Contains(err.Error(), fmt.Sprint(status)) {
				t.Errorf("%d, %s: %v", status, mode, err)
			}
		}
		if _, err := Enroll(t.Context(), t.TempDir(), "test", auth.EnrollToken{URL: e.URL, ProxyPin: e.pin}, EnrollOptions{}); err == nil {
			t.Errorf("%d: enrolled", status)
		}
	}
	if n := elsewhere.requests.Load(); n != 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}

// Nothing from the wire reaches a terminal as it is.
func TestTerminalEscapes(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	const escape = "\x1b]0;owned\a\u009b31m\u202e\r\n\x00"
	problem := api.Problem{Type: escape, Title: escape, Detail: escape, Errors: []api.ProblemField{{Location: escape, Message: "x" + escape}}, RetryAfter: 1 << 60}
	c := api.Certificate{ID: "id", Names: []string{escape}, Status: escape, Serial: escape, LastError: escape, Failures: 1}
	client, err := s.API()
	if err != nil {
		t.Fatal(err)
	}
	clean := func(what string, v any) {
		t.Helper()
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{`\u001b`, `\u0007`, "\u009b", "\u202e", `\r`, `\n`, `\u0000`} {
			if strings.Contains(string(text), bad) {
				t.Errorf("%s: %s", what, text)
				return
			}
		}
	}
	for _, status := range []int{200, 400, 403, 404, 429, 500} {
		e.reset()
		e.on("/", jsonAnswer(status, problem))
		var p *api.Problem
		if _, err := client.Self(t.Context()); status != 200 && (!errors.As(err, &p) || p.Status != status || p.RetryAfter > 7*24*60*60) {
			t.Errorf("%d: %v", status, err)
		} else if err != nil {
			clean("error", err.Error())
			clean("problem", p)
		}
		_, err := client.Issue(t.Context(), cert.Request{Names: cert.Names{"a.example"}, KeyType: cert.EC256}, nil)
		clean("issue", err.Error())
	}
	e.reset()
	e.on("POST "+api.PathCertificates, func(w http.ResponseWriter, r *http.Request) {
		jsonAnswer(200, api.Event{Event: api.EventStage, Stage: escape, Identifier: escape})(w, r)
		json.NewEncoder(w).Encode(api.Event{Event: api.EventProblem, Problem: &problem})
	})
	_, err = client.Issue(t.Context(), cert.Request{Names: cert.Names{"a.example"}, KeyType: cert.EC256}, func(ev acme.Event) { clean("event", ev) })
	var failed *acme.Error
	if !errors.As(err, &failed) || failed.RetryAt.After(time.Now().Add(8*24*time.Hour)) || failed.RetryAt.Before(time.Now()) {
		t.Errorf("error %+v", failed)
	}
	clean("issue", err.Error())
	clean("type", failed.Type)

	e.reset()
	e.on("GET "+api.PathClient, jsonAnswer(200, api.Client{Name: escape, Recipients: []string{escape}, Grants: []clients.Grant{{Names: []string{escape}, Modes: []clients.Mode{escape}}}}))
	e.on("GET "+api.PathCertificates, jsonAnswer(200, api.CertificateList{Certificates: []api.Certificate{c}}))
	e.on("GET "+api.PathCertificates+"/{id}", jsonAnswer(200, c))
	who, err := client.Self(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	clean("self", who)
	list, err := client.Certificates(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatal(err)
	}
	clean("list", list)
	one, err := client.Certificate(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}
	clean("one", one)
}

// Answers that are small as text and large in memory are not decoded, whatever
// the call: 25 MiB of empty objects took 5.4 GB. Not parallel, since it
// measures the process.
func TestSmallTextLargeInMemory(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	client, err := s.API()
	if err != nil {
		t.Fatal(err)
	}
	objects := strings.Repeat("{},", api.MaxAnswer/3-200) + "{}"
	stream := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text+"\n") }
	}
	var page atomic.Int64
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		call   func(ctx context.Context) error
	}{
		"a list of empty objects": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"certificates":[%s],"next":"%d"}`, objects, page.Add(1))
		}, func(ctx context.Context) error { _, err := client.Certificates(ctx); return err }},
		"pages that are longer than was asked": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"certificates":[%s],"next":"%d"}`, strings.Repeat("{},", 20_000)+"{}", page.Add(1))
		}, func(ctx context.Context) error { _, err := client.Certificates(ctx); return err }},
		"pages of short names": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"certificates":[{"names":[%s]}],"next":"%d"}`, strings.Repeat(`"",`, 60_000)+`""`, page.Add(1))
		}, func(ctx context.Context) error { _, err := client.Certificates(ctx); return err }},
		"grants": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"grants":[%s]}`, objects)
		}, func(ctx context.Context) error { _, err := client.Self(ctx); return err }},
		"faults of a problem": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"detail":"no","errors":[%s]}`, objects)
		}, func(ctx context.Context) error { _, err := client.Self(ctx); return err }},
		"an event": {stream(`{"event":"problem","problem":{"detail":"no","errors":[` + objects[:api.MaxEvent/3*3-300] + `{}]}}`), func(ctx context.Context) error {
			_, err := client.Issue(ctx, cert.Request{Names: cert.Names{"a.example.com"}, KeyType: cert.EC256}, nil)
			return err
		}},
	} {
		e.reset()
		e.on("/", tc.answer)
		page.Store(0)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := tc.call(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
		runtime.ReadMemStats(&after)
		// The text of an answer itself is read by doubling; a list has many pages.
		if got := after.TotalAlloc - before.TotalAlloc; got > 300<<20 {
			t.Errorf("%s: %d MiB were allocated", name, got>>20)
		} else {
			t.Logf("%s: %d MiB", name, got>>20)
		}
	}
}

// Lists and answers without end.
func TestUnboundedAnswers(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	client, err := s.API()
	if err != nil {
		t.Fatal(err)
	}
	var page atomic.Int64
	e.on("GET "+api.PathCertificates, func(w http.ResponseWriter, r *http.Request) {
		next := fmt.Sprint(page.Add(1))
		jsonAnswer(200, api.CertificateList{Certificates: []api.Certificate{{ID: next}}, Next: next})(w, r)
	})
	if _, err := client.Certificates(t.Context()); err == nil || !strings.Contains(err.Error(), "no end") {
		t.Errorf("pages: %v", err)
	}
	if n := page.Load(); n != maxPages {
		t.Errorf("%d pages were read", n)
	}
	for _, status := range []int{200, 500} {
		e.reset()
		e.on("/", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		})
		if _, err := client.Self(t.Context()); err == nil || !strings.Contains(err.Error(), "larger than") {
			t.Errorf("%d without end: %v", status, err)
		}
	}
}

// Answers that ask for the next question at once get it at a bearable pace.
func TestNoTightLoop(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	s.Timing = Timing{}
	e.reset()
	e.on("POST "+api.PathCertificates, jsonAnswer(202, api.Certificate{ID: "id"}))
	e.on("GET "+api.PathCertificates+"/id", jsonAnswer(200, api.Certificate{ID: "id", Status: api.StatusPending}))
	e.on("GET "+api.PathCertificates+"/id/bundle", jsonAnswer(404, api.Problem{Detail: "none yet"}))
	before := e.requests.Load()
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	if _, err := getter(t, s).Get(ctx, want(t, s, clients.ModeAgent)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if n := e.requests.Load() - before; n > 6 {
		t.Errorf("%d requests in 0.7 s", n)
	}
}
