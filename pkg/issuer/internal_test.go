package issuer

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// RFC 8288, in the forms that CAs send.
func TestAlternateLinks(t *testing.T) {
	h := http.Header{"Link": {
		`<https://ca.example/dir>;rel="index"`,
		`<https://ca.example/cert/1/alternate/1>;rel="alternate", </cert/1/alternate/2>; rel=alternate`,
		`<https://ca.example/up>;rel="up"`,
	}}
	got := alternateLinks("https://ca.example/cert/1", h)
	want := []string{"https://ca.example/cert/1/alternate/1", "https://ca.example/cert/1/alternate/2"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	many := http.Header{}
	for range 100 {
		many.Add("Link", `<https://ca.example/x>;rel="alternate"`)
	}
	if n := len(alternateLinks("https://ca.example/cert/1", many)); n != maxAlternates {
		t.Errorf("%d links are kept, want %d", n, maxAlternates)
	}
}

// A CA's headers are foreign input.
func FuzzAlternateLinks(f *testing.F) {
	f.Add("https://ca.example/cert/1", `<https://ca.example/cert/1/alternate/1>;rel="alternate"`)
	f.Add("https://ca.example/cert/1", `<>;rel=alternate,,<a>;;rel="alternate`)
	f.Add("%", `<%>;rel=alternate`)
	f.Fuzz(func(t *testing.T, from, value string) {
		for _, link := range alternateLinks(from, http.Header{"Link": {value}}) {
			if link == "" && from != "" {
				t.Errorf("an empty link of %q from %q", value, from)
			}
		}
	})
}

// A private CA has configured roots and may use any host.
func TestURLsOfAPrivateCA(t *testing.T) {
	w := newWire(nil, "https://ca.corp.example/dir", time.Now)
	w.private = true
	for _, ref := range []string{"https://10.1.2.3:9000/order/1", "https://step-ca:9000/order/1"} {
		if got, err := w.resolve(w.directoryURL, ref); err != nil || got != ref {
			t.Errorf("%s: %q, %v", ref, got, err)
		}
	}
	if got, err := w.resolve(w.directoryURL, "http://step-ca/order/1"); err == nil {
		t.Errorf("plain HTTP: %q", got)
	}
}

// URLs from a public CA have public hosts and https. A CA in our own network may use
// any host. Relative URLs are resolved.
func TestURLsOfACA(t *testing.T) {
	for _, test := range []struct{ directory, ref, want string }{
		{"https://ca.example/dir", "/order/1", "https://ca.example/acme/../order/1"},
		{"https://ca.example/dir", "order/1", "https://ca.example/acme/order/1"},
		{"https://ca.example/dir", "https://other.example:8443/o", "https://other.example:8443/o"}, // RFC 8555 allows it
		{"https://ca.example/dir", "//other.example/o", "https://other.example/o"},
		{"https://ca.example/dir", "https://8.8.8.8/o", "https://8.8.8.8/o"},
		{"https://ca.example/dir", "http://ca.example/o", ""},
		{"https://ca.example/dir", "https://user:secret@ca.example/o", ""},
		{"https://ca.example/dir", "https://169.254.169.254/latest/meta-data", ""},
		{"https://ca.example/dir", "https://[::ffff:127.0.0.1]/o", ""},
		{"https://ca.example/dir", "https://[fe80::1]/o", ""},
		{"https://ca.example/dir", "https://10.0.0.1/o", ""},
		{"https://ca.example/dir", "https://100.64.0.1/o", ""},
		{"https://ca.example/dir", "https://2130706433/o", ""},
		{"https://ca.example/dir", "https://127.1/o", ""},
		{"https://ca.example/dir", "https://localhost/o", ""},
		{"https://ca.example/dir", "https://LOCALHOST./o", ""},
		{"https://ca.example/dir", "https://db.internal/o", ""},
		{"https://ca.example/dir", "https://printer/o", ""},
		{"https://ca.example/dir", "javascript:alert(1)", ""},
		{"https://ca.example/dir", "https://", ""},
		{"https://ca.example/dir", "", ""},
		{"https://ca.example/dir", "https://ca.example/\r\nX: y", ""},
		{"https://ca.example/dir", "https://ca.example/" + strings.Repeat("a", maxURL), ""},
		{"https://ca.internal/dir", "https://10.0.0.1/o", "https://10.0.0.1/o"},
		{"https://127.0.0.1:14000/dir", "https://localhost:14000/o", "https://localhost:14000/o"},
	} {
		w := newWire(nil, test.directory, time.Now)
		base := strings.TrimSuffix(test.directory, "dir") + "acme/new"
		got, err := w.resolve(base, test.ref)
		want := strings.ReplaceAll(test.want, "acme/../", "")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s from %s: %q, %v; want %q", test.ref, test.directory, got, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || len(err.Error()) > 300) {
			t.Errorf("%q tells too much", err)
		}
	}
}
