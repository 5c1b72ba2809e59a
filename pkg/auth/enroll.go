package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

const (
	enrollPrefix  = "apx1-"
	enrollVersion = 1
	pinLen        = 32
	secretLen     = 16
	maxURLLen     = 300 // a host name has at most 253 bytes
	// maxEnrollLen is enough for the longest token. Longer input is not decoded.
	maxEnrollLen = len(enrollPrefix) + (1+pinLen+secretLen+maxURLLen+checksumLen)*4/3 + 4
)

// EnrollToken holds what a host needs to enrol: the proxy's URL, the pin of its key,
// and a secret that can be used once.
type EnrollToken struct {
	// URL is "https://host:port", without a path. The port 443 may be omitted.
	URL string
	// ProxyPin is the SPKIPin of the proxy's certificate.
	ProxyPin [pinLen]byte
	// Secret is only in the token. The store has its Verifier.
	Secret [secretLen]byte
}

// NewEnrollToken creates a token with a new secret. The error names the fault of the
// URL.
func NewEnrollToken(proxyURL string, pin [pinLen]byte) (EnrollToken, error) {
	if err := checkURL(proxyURL); err != nil {
		return EnrollToken{}, err
	}
	t := EnrollToken{URL: proxyURL, ProxyPin: pin}
	rand.Read(t.Secret[:]) // never fails since Go 1.24
	return t, nil
}

// String returns the token as one word: "apx1-" and, in base64url, the version, pin,
// secret, URL and a checksum of 4 bytes. It is secret, for the administrator's
// terminal only.
func (t EnrollToken) String() string {
	raw := []byte{enrollVersion}
	raw = append(raw, t.ProxyPin[:]...)
	raw = append(raw, t.Secret[:]...)
	raw = append(raw, t.URL...)
	return enrollPrefix + encoding.EncodeToString(append(raw, checksum(enrollPrefix, raw)...))
}

// LogValue returns a text without the secret, for a log that receives the token.
func (t EnrollToken) LogValue() slog.Value {
	return slog.StringValue("enrolment token for " + t.URL)
}

// Verifier returns the hash by which the store recognizes the token.
func (t EnrollToken) Verifier() []byte {
	sum := sha256.Sum256(t.Secret[:])
	return sum[:]
}

// ParseEnrollToken reads a token and ignores white space around it. Its errors never
// quote the token.
func ParseEnrollToken(s string) (EnrollToken, error) {
	s = strings.TrimSpace(s)
	if !strings.HasPrefix(s, enrollPrefix) {
		return EnrollToken{}, fmt.Errorf("an enrolment token begins with %s; copy the whole line that the proxy printed", enrollPrefix)
	}
	damaged := errors.New("token is damaged or cut off; copy the whole line again")
	if len(s) > maxEnrollLen {
		return EnrollToken{}, damaged
	}
	raw, err := decode(enrollPrefix, s)
	if err != nil || len(raw) == 0 {
		return EnrollToken{}, damaged
	}
	if raw[0] != enrollVersion {
		return EnrollToken{}, fmt.Errorf("token has version %d, this program reads version %d; update acmeproxy on this host", raw[0], enrollVersion)
	}
	raw = raw[1:]
	if len(raw) < pinLen+secretLen {
		return EnrollToken{}, damaged
	}
	t := EnrollToken{URL: string(raw[pinLen+secretLen:])}
	copy(t.ProxyPin[:], raw)
	copy(t.Secret[:], raw[pinLen:])
	if err := checkURL(t.URL); err != nil {
		return EnrollToken{}, fmt.Errorf("token contains no valid URL of a proxy: %w", err)
	}
	return t, nil
}

// checkURL accepts exactly "https://host[:port]", in lower case. A remote dials it
// without changes, so it must contain nothing else.
func checkURL(s string) error {
	bad := func(why string) error {
		return fmt.Errorf("%q %s; write it like https://acmeproxy.example.com:443", s, why)
	}
	if len(s) > maxURLLen {
		return fmt.Errorf("%d bytes are too long; write it like https://acmeproxy.example.com:443", len(s))
	}
	host, ok := strings.CutPrefix(s, "https://")
	if !ok {
		return bad("does not begin with https://")
	}
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789.-_:[]"
	if strings.ContainsFunc(host, func(r rune) bool { return !strings.ContainsRune(allowed, r) }) {
		return bad("is more than a lower-case host and a port")
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Host != host {
		return bad("has no valid host")
	}
	if strings.ContainsAny(host, "[]") || strings.Contains(u.Hostname(), ":") {
		addr, err := netip.ParseAddr(u.Hostname())
		if err != nil || !addr.Is6() || host[0] != '[' {
			return bad("has no valid host")
		}
	}
	if port := u.Port(); port != "" || strings.HasSuffix(host, ":") {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return bad("has no valid port")
		}
	}
	return nil
}

// SPKIPin returns the SHA-256 of a certificate's public key (its
// SubjectPublicKeyInfo). It does not change if the certificate is renewed with the
// same key. It is both the proxy's pin in an EnrollToken and the verifier of a
// client's "tls-key" credential.
func SPKIPin(c *x509.Certificate) [pinLen]byte {
	return sha256.Sum256(c.RawSubjectPublicKeyInfo)
}
