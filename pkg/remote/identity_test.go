package remote

import (
	"os"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// A file called like the public half of the host's own identity stops an
// enrolment before the token is used, unless it is just that. It never stops a host
// that is enrolled.
func TestStalePublicHalf(t *testing.T) {
	other, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ text, want string }{
		"of another identity": {other.Recipient().String() + "\n", "is not the public half of "},
		"damaged":             {"age1\n", ".pub: "},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEvil(t)
			s := e.enrolled(t)
			enroll := func() error {
				_, err := Enroll(t.Context(), s.Dir, "test", auth.EnrollToken{URL: e.URL, ProxyPin: e.pin}, EnrollOptions{})
				return err
			}
			path := s.path(identityName)
			identity, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			own, err := s.presentRecipient()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path+".pub", []byte(test.text), 0o644); err != nil {
				t.Fatal(err)
			}
			if got, err := s.presentRecipient(); err != nil || got != own {
				t.Errorf("an enrolled host has %q, %v; want %q", got, err, own)
			}
			if err := os.Remove(s.path(enrolmentName)); err != nil { // the host enrols again
				t.Fatal(err)
			}
			before := e.requests.Load()
			err = enroll()
			if err == nil || !strings.Contains(err.Error(), path+".pub") || !strings.Contains(err.Error(), test.want) ||
				!strings.HasSuffix(err.Error(), "; remove it, because an age identity does not need it") {
				t.Errorf("got %v", err)
			}
			if n := e.requests.Load() - before; n != 0 {
				t.Errorf("the proxy was asked %d times", n)
			}
			if err := os.WriteFile(path+".pub", []byte(own+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := enroll(); err != nil {
				t.Errorf("with the right one: %v", err)
			}
			if now, err := os.ReadFile(path); err != nil || string(now) != string(identity) {
				t.Errorf("the identity changed, %v", err)
			}
		})
	}
}
