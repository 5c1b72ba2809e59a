package issuer

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/hook"
)

// A CA's token becomes a file's name: nothing of a path may be in it.
func TestTokensAreNoPaths(t *testing.T) {
	root := t.TempDir()
	w, err := newWebroot(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"", "..", "../../index.html", "a/b", ".htaccess", "a\x00b", strings.Repeat("a", 256), "ä"} {
		if _, err := w.present(t.Context(), challenge{name: "a.example", token: token, keyAuthorization: "x"}); err == nil {
			t.Errorf("%q was written", token)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "index.html")); err == nil {
		t.Error("a file outside of the folder")
	}
	a, err := w.present(t.Context(), challenge{name: "a.example", token: "A-z_09", keyAuthorization: "x"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.present(t.Context(), challenge{name: "a.example", token: "A-z_09", keyAuthorization: "x"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, ".well-known", "acme-challenge", "A-z_09")
	a.Remove()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("another order needs it still: %v", err)
	}
	again.Remove()
	if _, err := os.Stat(path); err == nil {
		t.Error("the file is still there")
	}
}

// A deployment that removes or replaces the webroot ends no renewal: what is
// missing is created again, and answers of before are forgotten.
func TestWebrootIsRecreated(t *testing.T) {
	for name, deploy := range map[string]func(root string) error{
		"folder removed":  func(root string) error { return os.RemoveAll(root) },
		"content removed": func(root string) error { return os.RemoveAll(filepath.Join(root, ".well-known")) },
		"tokens removed":  func(root string) error { return os.RemoveAll(filepath.Join(root, ".well-known", "acme-challenge")) },
		"replaced by a link": func(root string) error {
			if err := os.Mkdir(root+"-2", 0o755); err != nil {
				return err
			}
			return errors.Join(os.Rename(root, root+"-1"), os.Symlink(root+"-2", root))
		},
	} {
		root := filepath.Join(t.TempDir(), "html")
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		w, err := newWebroot(root)
		if err != nil {
			t.Fatal(err)
		}
		before, err := w.present(t.Context(), challenge{name: "a.example", token: "before", keyAuthorization: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if err := deploy(root); err != nil {
			t.Fatal(err)
		}
		a, err := w.present(t.Context(), challenge{name: "a.example", token: "after", keyAuthorization: "answer"})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		path := filepath.Join(root, ".well-known", "acme-challenge", "after")
		if got, err := os.ReadFile(path); err != nil || string(got) != "answer" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		before.Remove()
		a.Remove()
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 0 {
			t.Errorf("%s: left behind %v, %v", name, left, err)
		}
	}
}

// The web server can enter what is created again, as under the shipped unit.
func TestRecreatedWebrootIsReadable(t *testing.T) {
	root := filepath.Join(t.TempDir(), "site", "html")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	w, err := newWebroot(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(root)); err != nil {
		t.Fatal(err)
	}
	umask := unix.Umask(0o077)
	_, err = w.present(t.Context(), challenge{name: "a.example", token: "token", keyAuthorization: "x"})
	unix.Umask(umask)
	if err != nil {
		t.Fatal(err)
	}
	for path := filepath.Join(root, ".well-known", "acme-challenge"); path != filepath.Dir(filepath.Dir(root)); path = filepath.Dir(path) {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

// A link that only a trusted user can have made leads to the folder of the tokens of
// all sites.
func TestWebrootWithTrustedLink(t *testing.T) {
	for _, part := range []string{".well-known", ".well-known/acme-challenge"} {
		root, shared := t.TempDir(), t.TempDir()
		path := filepath.Join(root, part)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(shared, path)); err != nil {
			t.Fatal(err)
		}
		w, err := newWebroot(root)
		if err != nil {
			t.Fatalf("%s: %v", part, err)
		}
		a, err := w.present(t.Context(), challenge{name: "a.example", token: "token", keyAuthorization: "x"})
		if err != nil {
			t.Fatalf("%s: %v", part, err)
		}
		published := filepath.Join(root, ".well-known", "acme-challenge", "token")
		if got, err := os.ReadFile(published); err != nil || string(got) != "x" {
			t.Errorf("%s: %q, %v", part, got, err)
		}
		a.Remove()
		if _, err := os.Stat(published); err == nil {
			t.Errorf("%s: the answer stays", part)
		}
	}
}

// In a webroot only links are refused, at start and for each answer. Nothing
// is written or removed behind one, and a link in place of a token is replaced.
func TestWebrootWithLinks(t *testing.T) {
	for _, part := range []string{".well-known", ".well-known/acme-challenge"} {
		root, outside := t.TempDir(), t.TempDir()
		w, err := newWebroot(root)
		if err != nil {
			t.Fatal(err)
		}
		a, err := w.present(t.Context(), challenge{name: "a.example", token: "token", keyAuthorization: "x"})
		if err != nil {
			t.Fatal(err)
		}
		path, victim := filepath.Join(root, part), filepath.Join(outside, "acme-challenge", "token")
		if part != ".well-known" {
			victim = filepath.Join(outside, "token")
		}
		if err := errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Dir(victim), 0o755), os.WriteFile(victim, nil, 0o600), os.Symlink(outside, path),
			os.Chmod(filepath.Dir(path), 0o777)); err != nil { // another user can have made the link
			t.Fatal(err)
		}
		for _, err := range []error{
			func() error { _, err := newWebroot(root); return err }(),
			func() error {
				_, err := w.present(t.Context(), challenge{name: "a.example", token: "another", keyAuthorization: "x"})
				return err
			}(),
		} {
			if err == nil || !strings.Contains(err.Error(), path+" is a symbolic link") {
				t.Errorf("%s: %v", part, err)
			}
		}
		a.Remove()
		if _, err := os.Stat(victim); err != nil {
			t.Errorf("%s: a file behind the link was removed: %v", part, err)
		}
	}
	root, outside := t.TempDir(), filepath.Join(t.TempDir(), "file")
	w, err := newWebroot(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(root, ".well-known", "acme-challenge", "token")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.present(t.Context(), challenge{name: "a.example", token: "token", keyAuthorization: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(outside); err == nil {
		t.Error("a file was written through a link")
	}
}

// A7, X11: what a DNS provider is set up by is not for hooks.
func TestHooksAreNotToldOfProviders(t *testing.T) {
	variable := regexp.MustCompile(`[A-Z][A-Z0-9]*(_[A-Z0-9]+)+`)
	for provider, known := range dnsProviders() {
		all := variable.FindAllString(known.needs, -1)
		if len(all) < 2 && provider != "exec" {
			t.Errorf("%s: %q is all it needs", provider, all)
		}
		for _, name := range all {
			t.Setenv(name, "s3cret of "+provider)
		}
	}
	if err := (hook.Hook{Command: "! env | grep s3cret"}).Run(t.Context(), hook.Event{}); err != nil {
		t.Error(err)
	}
}

// M46: without anybody to ask for CNAMEs, the name itself is taken only where
// nobody is to look afterwards; they can be switched off as lego has it.
func TestPlaceWithoutResolvers(t *testing.T) {
	for _, test := range []struct{ whom, off, want string }{
		{PropagationNone, "", "_acme-challenge.a.example."},
		{PropagationNameservers, "", ""},
		{PropagationNameservers, "true", "_acme-challenge.a.example."},
	} {
		t.Setenv("LEGO_DISABLE_CNAME_SUPPORT", test.off)
		r := &rfc2136{check: &propagation{whom: test.whom}}
		got, err := r.place(t.Context(), challenge{name: "a.example"})
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%+v: got %q, %v", test, got, err)
		}
	}
}

// One at a time for each key, a pause in between, nothing kept for ever.
func TestTurns(t *testing.T) {
	var turns turns
	first, _, err := turns.take(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := turns.take(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	other(0)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := turns.take(cancelled, "a"); err == nil {
		t.Error("two have the same turn")
	}
	const pause = 50 * time.Millisecond
	released := time.Now()
	first(pause)
	second, _, err := turns.take(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(released); took < pause {
		t.Errorf("the next turn came after %v, want %v", took, pause)
	}
	second(time.Hour)
	if _, _, err := turns.take(cancelled, "a"); err == nil {
		t.Error("the pause was not kept")
	}
	if third, _, err := turns.take(t.Context(), "c"); err != nil {
		t.Error(err)
	} else {
		third(0)
	}
	if len(turns.by) != 2 || turns.by["a"] == nil { // a's pause runs, c was the last
		t.Errorf("kept: %v", turns.by)
	}
}

// RFC 8288, as CAs write it.
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

// A private CA, which has roots of its own, may be anywhere.
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

// URLs from a public CA lead to public hosts over https; a CA in our own
// network may be anywhere. Relative ones are resolved.
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
