package challenge

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// ClientAnswer is the answer to an HTTP-01 challenge of a client with a CA account of
// its own. All instances serve it, and decide on their own how long.
type ClientAnswer struct {
	ClientID         string
	CredentialID     string     // with which the client published it
	Addr             netip.Addr // from which the client published it
	Name             string     // DNS name or IP address, canonical
	Token            string
	KeyAuthorization string
	Until            time.Time // it is not served from then on
}

// ErrTaken reports a client's token that the proxy or another client answers for the same
// name.
var ErrTaken = errors.New("token: the proxy or another client answers it for this name already; use the token of an order of your own")

// ElsewhereError reports that this instance does not serve port 80 itself.
type ElsewhereError struct{ Reason string }

func (e *ElsewhereError) Error() string {
	return "port 80: this proxy cannot answer challenges of clients, because " + e.Reason + "; ask its administrator"
}

// The lengths of a token that CheckToken accepts, in characters. A token has at
// least 128 bits (RFC 8555, section 8.3).
const (
	minClientToken = 22
	maxClientToken = 128
)

// CheckToken returns an error for a text that no CA uses as a token.
func CheckToken(token string) error {
	switch {
	case token == "":
		return errors.New("missing; use the token of the CA's challenge")
	case !IsToken(token):
		return errors.New("not base64url; use the token of the CA's challenge")
	case len(token) < minClientToken || len(token) > maxClientToken:
		return errors.New("not 22 to 128 characters long; use the token of the CA's challenge")
	}
	return nil
}

// thumbprintLen is the number of bytes of an account key's thumbprint (RFC 8555, section
// 8.1).
const thumbprintLen = 32

// CheckKeyAuthorization returns an error unless text is the key authorization of a token:
// the token, a full stop and the thumbprint of an account key (RFC 8555, section 8.1).
func CheckKeyAuthorization(token, text string) error {
	thumbprint, ok := strings.CutPrefix(text, token+".")
	if !ok {
		return errors.New("it does not begin with the token and a full stop; use the key authorization of this challenge")
	}
	sum, err := base64.RawURLEncoding.Strict().DecodeString(thumbprint)
	if err != nil || len(sum) != thumbprintLen || strings.ContainsAny(thumbprint, "\r\n") {
		return errors.New("it does not end with the thumbprint of an account key; use the key authorization of this challenge")
	}
	return nil
}

// CheckName returns an error unless a name is canonical and HTTP-01 can prove it.
func CheckName(name string) error {
	canonical, err := cert.ParseName(name)
	switch {
	case err != nil:
		return err
	case canonical != name:
		return errors.New("not in its canonical form; use lower case")
	case cert.IsWildcard(name):
		return errors.New("http-01 cannot prove a wildcard; use the name without *., or another way to get the certificate")
	}
	return nil
}
