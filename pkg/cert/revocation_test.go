package cert_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// leafFor is a certificate for a key; its issuer does not matter here.
func leafFor(t testing.TB, key crypto.Signer, names ...string) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(0x0a0b), DNSNames: names, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func revocation(t testing.TB, leaf, reason string, proof []byte) cert.Revocation {
	t.Helper()
	rev, err := cert.ParseRevocation(leaf, reason, base64.StdEncoding.EncodeToString(proof))
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// A proof is by the certificate's key, for that certificate and that reason.
func TestRevocationProof(t *testing.T) {
	t.Parallel()
	for _, kt := range []cert.KeyType{cert.EC256, cert.EC384, cert.RSA2048, cert.RSA4096} {
		t.Run(string(kt), func(t *testing.T) {
			t.Parallel()
			key, err := cert.GenerateKey(kt)
			if err != nil {
				t.Fatal(err)
			}
			leaf, other := leafFor(t, key, "a.example.com"), leafFor(t, key, "b.example.com")
			der := revocation(t, leaf, "", nil).Leaf.Raw
			proof, err := cert.ProveRevocation(key, der, cert.KeyCompromise)
			if err != nil {
				t.Fatal(err)
			}
			rev := revocation(t, leaf, "KEYcompromise", proof)
			if !rev.Proven() || rev.Serial() != "0a0b" || rev.Reason.Code() != 1 || rev.Names.String() != "a.example.com" {
				t.Errorf("%v %+v", rev.Proven(), rev)
			}
			damaged := append([]byte(nil), proof...)
			damaged[len(damaged)-1] ^= 1
			stranger, err := cert.GenerateKey(kt)
			if err != nil {
				t.Fatal(err)
			}
			foreign, err := cert.ProveRevocation(stranger, der, cert.KeyCompromise)
			if err != nil {
				t.Fatal(err)
			}
			for name, rev := range map[string]cert.Revocation{
				"none":                revocation(t, leaf, "keyCompromise", nil),
				"another reason":      revocation(t, leaf, "superseded", proof),
				"another certificate": revocation(t, other, "keyCompromise", proof),
				"another key":         revocation(t, leaf, "keyCompromise", foreign),
				"a changed bit":       revocation(t, leaf, "keyCompromise", damaged),
				"cut off":             revocation(t, leaf, "keyCompromise", proof[:len(proof)-1]),
				"longer":              revocation(t, leaf, "keyCompromise", append(proof[:len(proof):len(proof)], 0)),
			} {
				if rev.Proven() {
					t.Errorf("%s: taken for a proof", name)
				}
			}
		})
	}
}

// A shell makes a proof, too, as docs/security.md says.
func TestRevocationProofByOpenSSL(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("SKIP: " + err.Error())
	}
	const script = `printf 'acmeproxy: the holder of this key wants this certificate revoked, version 1\n%s\n%s\n' \
  "$(openssl x509 -in cert.pem -outform DER | openssl dgst -sha256 -r | cut -d' ' -f1)" keyCompromise |
  openssl dgst -sha256 -sign privkey.pem | base64 -w0`
	for _, kt := range []cert.KeyType{cert.EC256, cert.RSA2048} {
		key, err := cert.GenerateKey(kt)
		if err != nil {
			t.Fatal(err)
		}
		dir, leaf := t.TempDir(), leafFor(t, key, "a.example.com")
		keyPEM, err := cert.MarshalKey(key)
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{"cert.pem": []byte(leaf), "privkey.pem": keyPEM} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		sh := exec.CommandContext(t.Context(), "sh", "-c", script)
		sh.Dir = dir
		proof, err := sh.Output()
		if err != nil {
			t.Fatal(err)
		}
		rev, err := cert.ParseRevocation(leaf, "keyCompromise", string(proof))
		if err != nil || !rev.Proven() {
			t.Errorf("%s: %v, proven %v", kt, err, rev.Proven())
		}
	}
	docs, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(docs), script) {
		t.Error("docs/security.md shows another script than the one tested")
	}
}

func TestParseReason(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]cert.Reason{"": cert.Unspecified, "SUPERSEDED": cert.Superseded, "cessationofoperation": cert.CessationOfOperation} {
		if got, err := cert.ParseReason(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	_, err := cert.ParseReason("stolen")
	if err == nil || err.Error() != `unknown reason "stolen"; write one of unspecified, keyCompromise, superseded, cessationOfOperation` {
		t.Error(err)
	}
	codes := map[cert.Reason]uint{cert.Unspecified: 0, cert.KeyCompromise: 1, cert.Superseded: 4, cert.CessationOfOperation: 5}
	for r, code := range codes {
		if r.Code() != code {
			t.Errorf("%s is %d", r, r.Code())
		}
	}
}

// Whatever comes, the parser ends with a field's name or with something whole,
// and nothing that was not signed is proven.
func FuzzParseRevocation(f *testing.F) {
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		f.Fatal(err)
	}
	leaf := leafFor(f, key, "a.example.com")
	der, _ := pem.Decode([]byte(leaf))
	good, err := cert.ProveRevocation(key, der.Bytes, cert.Superseded)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(leaf, "superseded", base64.StdEncoding.EncodeToString(good))
	f.Add(leaf, "", "")
	f.Add("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "keyCompromise", "AA==")
	f.Add("", "x", strings.Repeat("A", 5000))
	f.Fuzz(func(t *testing.T, certificate, reason, proof string) {
		rev, err := cert.ParseRevocation(certificate, reason, proof)
		if err != nil {
			var field *cert.FieldError
			if !asField(err, &field) || rev.Leaf != nil {
				t.Fatalf("%v, %+v", err, rev)
			}
			return
		}
		if rev.Leaf == nil || len(rev.Names) == 0 || len(rev.Proof) > cert.MaxProof+2 {
			t.Fatalf("%+v", rev)
		}
		if rev.Proven() && rev.Leaf.Equal(mustLeaf(t, leaf)) && rev.Reason != cert.Superseded {
			t.Fatal("proven without the key")
		}
	})
}

func mustLeaf(t testing.TB, leaf string) *x509.Certificate {
	return revocation(t, leaf, "", nil).Leaf
}

func asField(err error, field **cert.FieldError) bool {
	f, ok := err.(*cert.FieldError) //nolint:errorlint // exactly that type
	*field = f
	return ok && f.Field != ""
}
