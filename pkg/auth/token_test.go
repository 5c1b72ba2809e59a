package auth

import (
	"bytes"
	"crypto/sha256"
	"log/slog"
	"strings"
	"testing"
)

// A21: typing errors in a token are detected before the store is queried.
func TestBearer(t *testing.T) {
	token, verifier := NewBearer()
	if sum := sha256.Sum256([]byte(token)); !bytes.Equal(verifier, sum[:]) {
		t.Error("the verifier is not the token's SHA-256")
	}
	if got, err := BearerVerifier(token); err != nil || !bytes.Equal(got, verifier) {
		t.Errorf("BearerVerifier = %x, %v; want %x", got, err, verifier)
	}
	if other, _ := NewBearer(); other == token {
		t.Error("two tokens are the same")
	}
	for i := range token {
		for _, damaged := range []string{
			token[:i], token[i+1:], token[:i] + token[i+1:], token[:i] + "\n" + token[i:],
			token[:i] + "=" + token[i:], token[:i] + flip(token[i]) + token[i+1:],
		} {
			if damaged == token {
				continue
			}
			if _, err := BearerVerifier(damaged); err == nil {
				t.Fatalf("%q is accepted", damaged)
			} else if strings.Contains(err.Error(), token[5:15]) {
				t.Fatalf("the error quotes the token: %v", err)
			}
		}
	}
	if _, err := BearerVerifier(enrollPrefix + strings.TrimPrefix(token, bearerPrefix)); err == nil {
		t.Error("a bearer token passes under another prefix")
	}
}

// flip changes a base64url letter to another one.
func flip(b byte) string {
	if b == 'A' {
		return "B"
	}
	return "A"
}

func newEnroll(t testing.TB, url string) EnrollToken {
	t.Helper()
	token, err := NewEnrollToken(url, [32]byte{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestEnrollToken(t *testing.T) {
	for _, url := range []string{
		"https://acmeproxy.example.com:443", "https://acmeproxy.example.com", "https://dmz1:8443",
		"https://192.0.2.1:443", "https://[2001:db8::1]:443", "https://[2001:db8::1]",
	} {
		want := newEnroll(t, url)
		got, err := ParseEnrollToken(" \t" + want.String() + "\r\n")
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", url, got.URL, err)
		}
		if sum := sha256.Sum256(want.Secret[:]); !bytes.Equal(got.Verifier(), sum[:]) {
			t.Errorf("%s: the verifier is not the secret's SHA-256", url)
		}
	}
	if first, second := newEnroll(t, "https://a"), newEnroll(t, "https://a"); first.Secret == second.Secret {
		t.Error("two tokens have the same secret")
	}
}

func TestEnrollTokenDamaged(t *testing.T) {
	token := newEnroll(t, "https://acmeproxy.example.com:443").String()
	const want = "token is damaged or cut off; copy the whole line again"
	for i := len(enrollPrefix); i < len(token); i++ {
		for _, damaged := range []string{
			token[:i], token[:i] + token[i+1:], token[:i] + "\n" + token[i:], token[:i] + " " + token[i:],
			token[:i] + flip(token[i]) + token[i+1:], token + token[i:],
		} {
			if damaged == token || strings.TrimSpace(damaged) == token {
				continue
			}
			if _, err := ParseEnrollToken(damaged); err == nil || err.Error() != want {
				t.Fatalf("%q: %v", damaged, err)
			}
		}
	}
	bearer, _ := NewBearer()
	for token, want := range map[string]string{
		"":                               "begins with apx1-",
		bearer:                           "begins with apx1-",
		forge(2, "https://a:1"):          "update acmeproxy",
		forge(1, "http://a:1"):           "does not begin with https://",
		forge(1, ""):                     "does not begin with https://",
		forge(1, strings.Repeat("a", 9)): "does not begin with https://",
		enrollPrefix + strings.Repeat("A", 100_000): "damaged",
	} {
		if _, err := ParseEnrollToken(token); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v; want %q", token, err, want)
		}
	}
}

// forge creates a token with a correct checksum and any version and URL.
func forge(version byte, url string) string {
	raw := append([]byte{version}, make([]byte, pinLen+secretLen)...)
	raw = append(raw, url...)
	return enrollPrefix + encoding.EncodeToString(append(raw, checksum(enrollPrefix, raw)...))
}

func TestNewEnrollTokenURL(t *testing.T) {
	for _, url := range []string{
		"", "https://", "http://a.example", "https://a.example/", "https://a.example/x", "https://u@a.example",
		"https://a.example?x", "https://a.example#x", "https://a.example:", "https://a.example:0",
		"https://a.example:65536", "https://a.example:x", "https://A.example", "https://a example",
		"https://a.example\n", "https://[::1", "https://::1", "https://[a]:1", "https://a:1:2", "https://[192.0.2.1]:1",
		"https://a]:1", "https://a[b]:1", "https://bücher.example", "https://%61.example", "https://" + strings.Repeat("a", 300),
	} {
		if _, err := NewEnrollToken(url, [32]byte{}); err == nil {
			t.Errorf("%q is accepted", url)
		} else if !strings.Contains(err.Error(), "write it like https://") {
			t.Errorf("%q: no remedy: %v", url, err)
		}
	}
}

// A log that receives a token shows its URL, not its secret.
func TestEnrollTokenLog(t *testing.T) {
	token := newEnroll(t, "https://acmeproxy.example.com:443")
	for _, h := range []func(*bytes.Buffer) slog.Handler{
		func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var buf bytes.Buffer
		slog.New(h(&buf)).Info("token made", "token", token)
		if s := buf.String(); strings.Contains(s, enrollPrefix) || !strings.Contains(s, "acmeproxy.example.com") {
			t.Errorf("log line %q", s)
		}
	}
}

func FuzzParseEnrollToken(f *testing.F) {
	f.Add(newEnroll(f, "https://acmeproxy.example.com:443").String())
	f.Add(forge(1, "https://[::1]:1"))
	f.Add(forge(2, "https://a"))
	f.Add(forge(1, "https://a/../b"))
	f.Add("apx1-AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		token, err := ParseEnrollToken(s)
		if err != nil {
			return
		}
		if got := token.String(); got != strings.TrimSpace(s) {
			t.Errorf("%q has a second spelling %q", s, got)
		}
	})
}

// FuzzEnrollTokenURL adds a correct checksum, which plain fuzzing cannot find.
func FuzzEnrollTokenURL(f *testing.F) {
	f.Add(byte(1), "https://acmeproxy.example.com:443")
	f.Add(byte(1), "https://[::1]:1")
	f.Add(byte(1), "https://a:b:1")
	f.Add(byte(3), "")
	f.Fuzz(func(t *testing.T, version byte, url string) {
		token, err := ParseEnrollToken(forge(version, url))
		if err != nil {
			return
		}
		if token.URL != url || token.String() != forge(version, url) {
			t.Errorf("%q came back as %q", url, token.URL)
		}
		if _, err := NewEnrollToken(url, token.ProxyPin); err != nil {
			t.Errorf("%q can be parsed, not made: %v", url, err)
		}
	})
}

func FuzzBearerVerifier(f *testing.F) {
	token, _ := NewBearer()
	f.Add(token)
	f.Add("apt1-")
	f.Add("apt1-" + strings.Repeat("A", 48))
	f.Fuzz(func(t *testing.T, s string) {
		verifier, err := BearerVerifier(s)
		if err != nil {
			return
		}
		raw, err := encoding.DecodeString(strings.TrimPrefix(s, bearerPrefix))
		if err != nil || bearerPrefix+encoding.EncodeToString(raw) != s {
			t.Errorf("%q has a second spelling", s)
		}
		if want := sha256.Sum256([]byte(s)); !bytes.Equal(want[:], verifier) {
			t.Errorf("verifier of %q", s)
		}
	})
}
