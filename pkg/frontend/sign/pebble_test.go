package sign_test

import (
	"bytes"
	"crypto"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// A script gets certificates from a CA that rejects some nonces (M55): with the usual and
// with any Content-Type (M1, M2, M3, M6), for each kind of key (M48), with a common name, an
// alternative name or both (M18, M20). Without a cache, each request has its own order (M34).
func TestPebble(t *testing.T) {
	t.Parallel()
	ca := startPebble(t, pebbletest.Options{NonceReject: 15})
	l := newLab(t, ca, "[auth web]\nip=127.0.0.0/8\ndomain=*.example.org\n")
	ec, rsa := newKey(t, cert.EC256), newKey(t, cert.RSA2048)
	for i, c := range []struct {
		key    crypto.Signer
		common string
		names  []string
		want   []string
	}{
		{ec, "cn.example.org", []string{"cn.example.org"}, []string{"cn.example.org"}},
		{rsa, "", []string{"san.example.org"}, []string{"san.example.org"}},
		{ec, "a.example.org", []string{"a.example.org", "A.b.example.org"}, []string{"a.example.org", "a.b.example.org"}},
	} {
		csr := newCSR(t, c.key, c.common, c.names...)
		all := chain(t, l.post(t, csr, "Content-Type: application/x-www-form-urlencoded"))
		slices.Sort(c.want)
		got := strings.Fields(strings.ToLower(strings.Join(all[0].DNSNames, " "))) // Pebble copies the CSR
		if slices.Sort(got); !slices.Equal(got, c.want) || !cert.SameKey(all[0].PublicKey, c.key.Public()) {
			t.Errorf("%d: %v", i, got)
		}
		if err := all[0].CheckSignatureFrom(all[1]); err != nil {
			t.Error(err)
		}
		again := chain(t, l.post(t, csr))
		if again[0].SerialNumber.Cmp(all[0].SerialNumber) == 0 {
			t.Error("the storage none has cached")
		}
	}
	if n := ca.orders(); n < 6 {
		t.Errorf("%d orders", n)
	}
}

// The cache answers the same bytes from the files of ACMEMS, whose folder it can share,
// after the caller is accepted (M32, M35). Other bytes are another CSR. A certificate that ends
// soon is replaced (M33), and so is a file that cannot be used.
func TestCache(t *testing.T) {
	t.Parallel()
	ca := startPebble(t, pebbletest.Options{})
	dir := filepath.Join(t.TempDir(), "not", "there")
	l := newLab(t, ca, "[storage f]\ntype=file\ndirectory="+dir+"\n[auth web]\nhmac_type=sha256\nhmac_key=secret\ndomain=*\n")
	csr := newCSR(t, newKey(t, cert.EC256), "", "www.example.org")
	key := signed("secret", csr)
	first := l.post(t, csr, key)
	serial := chain(t, first)[0].SerialNumber
	files, err := filepath.Glob(filepath.Join(dir, "??", strings.Repeat("?", 94), "*"))
	if err != nil || len(files) != 2 || filepath.Base(files[0]) != "cert.pem" || filepath.Base(files[1]) != "csr.pem" {
		t.Fatalf("%v, %v", files, err)
	}
	for i, want := range []string{first.body, string(csr)} {
		if got, err := os.ReadFile(files[i]); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", files[i], got, err)
		}
	}
	if again := l.post(t, csr, key); again.body != first.body || ca.orders() != 1 {
		t.Errorf("%d orders for the same CSR", ca.orders())
	}
	if a := l.post(t, csr, signed("other", csr)); a.StatusCode != http.StatusForbidden { // M35
		t.Error(a.Status)
	}
	crlf := bytes.ReplaceAll(csr, []byte("\n"), []byte("\r\n"))
	if chain(t, l.post(t, crlf, signed("secret", crlf)))[0].SerialNumber.Cmp(serial) == 0 {
		t.Error("other bytes got the cached certificate")
	}

	l.later.Store(int64(75 * 24 * time.Hour)) // of 90 days: 15 remain
	if again := l.post(t, csr, key); again.body != first.body {
		t.Error("replaced before its time")
	}
	l.later.Store(int64(77 * 24 * time.Hour))
	second := l.post(t, csr, key)
	if chain(t, second)[0].SerialNumber.Cmp(serial) == 0 {
		t.Error("not replaced")
	}
	l.later.Store(0)
	if again := l.post(t, csr, key); again.body != second.body {
		t.Error("the new certificate is not cached")
	}

	for _, damaged := range []string{"", "-----BEGIN", crlfChain(second.body)[:600]} {
		if err := os.WriteFile(files[0], []byte(damaged), 0o644); err != nil {
			t.Fatal(err)
		}
		a := l.post(t, csr, key)
		chain(t, a)
		if got, err := os.ReadFile(files[0]); err != nil || string(got) != a.body {
			t.Errorf("%q is not replaced: %v", damaged, err)
		}
	}
	for _, e := range l.audit(t) {
		if e.Outcome == "allowed" && (e.ClientName != "sign:web" || string(e.Mode) != "sign" || e.Addr != "127.0.0.1") {
			t.Errorf("%+v", e)
		}
	}
}

func crlfChain(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
