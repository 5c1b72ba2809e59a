package bodymac_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/bodymac"
)

const (
	key, body = "secret", "a CSR"
	right     = "c4924ef6aab2118494b2b9cceb314ef679560db0e0f1dffc437081c7a1042de8"
)

// The header has options in any order, more of them, and a comma or a space between them
// (M26, M27). OpenSSL 3 calls SHA-256 differently (M28). Malformed ones count as none (M30).
func TestParseHeader(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{
		"hmac name=sha256, hash=" + right:                     true,
		"hmac hash=" + right + ", name=sha256":                true,
		"hmac name=sha256, keyid=7, hash=" + right:            true,
		"hmac name=sha256 hash=" + right:                      true,
		"hmac name=sha256,hash=" + right:                      true,
		"hmac  name=sha256\thash=" + right + " ":              true,
		"hmac name=sha2-256, hash=" + right:                   true,
		"hmac name=SHA256, hash=" + strings.ToUpper(right):    true,
		"hmac name=sha1, name=sha256, hash=00, hash=" + right: true,
		"hmac name=sha384, hash=" + right:                     false,
		"hmac name=sha256, hash=" + right[:62]:                false,
		"hmac name=sha256, hash=" + right + "00":              false,
		"hmac name=sha256, hash=" + strings.Repeat("0", 64):   false,
		"hmac name=sha256, hash=é" + right[2:]:                false,
		"hmac name=sha256, hash=":                             false,
		"hmac name=sha256":                                    false,
		"hmac hash=" + right:                                  false,
		"hmac name=sha256, hash=" + right + ", more":          false,
		"hmac":                           false,
		"hmac ":                          false,
		"hmacname=sha256, hash=" + right: false,
		"Basic abcd":                     false,
		"":                               false,
		"hmac name=sha256, hash=" + right + ", x=" + strings.Repeat("x", 5<<10): false,
	} {
		mac, ok := bodymac.ParseHeader(value)
		got := ok && mac.Type == bodymac.SHA256 && mac.Verify([]byte(key), []byte(body))
		if got != want {
			t.Errorf("%.120q: %v", value, got)
		}
	}
}

// Each hash function of hashlib is known, by its name there and as both versions of
// OpenSSL print it (M28, M31). The sums are from Python's hmac, and equal OpenSSL's.
func TestTypes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ hashlib, openssl1, openssl3, sum string }{
		{"md5", "MD5", "MD5", "fdff8c733b86428c05990b10b5020563"},
		{"sha1", "SHA1", "SHA1", "aebdbe876be6fcf5e374a339309b20f2f79f1369"},
		{"sha224", "SHA224", "SHA2-224", "1261f3effecab9de009c5a7aa9ea66173cbfc145cee1399281b928f7"},
		{"sha256", "SHA256", "SHA2-256", right},
		{"sha384", "SHA384", "SHA2-384", "71415a1263942ab14f6e1947e9ec32dc1f21c482ac367f891e9587dd334b748a9fe1d4aa8f2a1a21f09123a551407b83"},
		{"sha512", "SHA512", "SHA2-512", "e4aae7c83ac6e8f0c800ea233f13099291b1cc2fc20b75e53409f7e5b73b9ae04274f2ffeafe49644ff617331a40b73fb5ba6dfd0411cf1c1517c0f82a3dc527"},
		{"sha3_224", "SHA3-224", "SHA3-224", "3d97058608908eb50e4368b1d2033835c1df4b02f56c8d00a34ab977"},
		{"sha3_256", "SHA3-256", "SHA3-256", "54a1a1fc2a55378952b4a9f71cea18544e334b70fbfa1315c790d6a2aaf2be24"},
		{"sha3_384", "SHA3-384", "SHA3-384", "c27c9252d971623b4b02f666dd27df6fa3a35c811696ad629e450d1f8c570ffb581e3e860a7775d86785c9f0e3e3e07d"},
		{"sha3_512", "SHA3-512", "SHA3-512", "5f23b983e480a9615db3f8c59d8225e02e1336292758e8685bbf9726425805e49994103616ecee0ded893080a7b86b22fff409baa9118c14caeb781c6b235fbc"},
		{"blake2b", "BLAKE2b512", "BLAKE2B-512", "f3e4bfcc5320d6714bb9adc08efccce5fcf7a63e6ef4b2eaf2aaab7b01edeeb7f7fb269a8cf2fe866a1f10f3fd02c9bbcbab43e9eea52e07f662b6d98d62a381"},
		{"blake2s", "BLAKE2s256", "BLAKE2S-256", "4a81febd50c46374e7f3cb28e3625c98c3c2882b8a0efdae14c77a46ee98ba35"},
	} {
		want, err := bodymac.ParseType(c.hashlib)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, name := range []string{c.hashlib, c.openssl1, c.openssl3, strings.ToLower(c.openssl3)} {
			mac, ok := bodymac.ParseHeader("hmac name=" + name + ", hash=" + c.sum)
			if !ok || mac.Type != want || !mac.Verify([]byte(key), []byte(body)) {
				t.Errorf("%s: %v %v", name, mac, ok)
			}
			if mac.Verify([]byte("secreT"), []byte(body)) || mac.Verify([]byte(key), []byte(body+"\n")) {
				t.Errorf("%s: another key or body", name)
			}
		}
	}
	for _, name := range []string{"", "SHA256", "shake_128", "new", "sha512_256"} {
		if got, err := bodymac.ParseType(name); err == nil {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// An empty key, which everybody knows, verifies nothing, and no log gets the HMAC.
func TestSecrets(t *testing.T) {
	t.Parallel()
	mac, _ := bodymac.ParseHeader("hmac name=sha256, hash=b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad")
	if mac.Verify(nil, nil) {
		t.Error("an empty key counts")
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(format, mac); strings.Contains(text, "b613") || strings.Contains(text, "179") {
			t.Errorf("%s: %s", format, text)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add("hmac name=sha256, hash=" + right)
	f.Add("hmac name=SHA3-256 hash=00")
	f.Fuzz(func(t *testing.T, value string) {
		mac, ok := bodymac.ParseHeader(value)
		if _, err := bodymac.ParseType(string(mac.Type)); ok && err != nil {
			t.Error(err)
		}
		mac.Verify([]byte(key), []byte(body))
	})
}

func ExampleParseHeader() {
	mac, ok := bodymac.ParseHeader("hmac name=sha2-256, hash=" + right)
	fmt.Println(ok, mac.Type, mac.Verify([]byte(key), []byte(body)))
	// Output: true sha256 true
}
