package e2e

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// startRelay starts a whole proxy with its ACME door in front of a Pebble, for all
// clients. The proxy answers the challenges of that CA, which the clients cannot do.
func startRelay(t *testing.T) func(*testing.T, kind) *site {
	port, err := pebbletest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	p := proxytest.Start(t, proxytest.Options{
		Pebble: pebbletest.Options{
			Profiles: map[string]time.Duration{"default": lifetime}, AlternateRoots: 1, Wrap: refuseFailing,
		},
		Change: func(cfg *proxy.Config) {
			cfg.HTTPSAddr = fmt.Sprintf("127.0.0.1:%d", port)
			cfg.PublicURL = fmt.Sprintf("https://127.0.0.1:%d", port)
		},
	})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.CA.RootsPEM)
	return func(t *testing.T, k kind) *site {
		s := newSite(t, k, false)
		s.three = s.names("three", "www", "mail") // wildcards need a DNS provider
		granted := slices.Concat(s.names("one"), s.three, s.names("rolled"), s.names("failing"))
		credential := p.ACMECredential(t, k.name, proxytest.Grant(clients.ModeACME, granted...))
		s.directory, s.kid, s.hmac = credential.Directory, credential.Kid, credential.HMACKey
		s.setTrust(t, []byte(credential.Certificate))
		s.roots = roots
		s.revoked = func(_ *testing.T, serial *big.Int) bool {
			_, revoked := p.CA.Revoked(serial)
			return revoked
		}
		s.refusals = []refusal{
			{"refused", "ask the proxy's administrator to add it"},
			{"failing", "the CA refuses failing." + s.domain},
		}
		return s
	}
}

// refuseFailing refuses orders of names that begin with "failing" at the CA.
func refuseFailing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if pebbletest.Kind(r) != pebbletest.NewOrder {
			next.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		name := orderedName(body)
		if !strings.HasPrefix(name, "failing.") {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(acme.Problem{
			Type: acme.RejectedIdentifier, Status: http.StatusForbidden, Detail: "the CA refuses " + name,
		})
	})
}

// orderedName returns the first name of a newOrder request.
func orderedName(body []byte) string {
	var signed struct{ Payload string }
	var order struct{ Identifiers []acme.Identifier }
	if json.Unmarshal(body, &signed) != nil {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(signed.Payload)
	if err != nil || json.Unmarshal(payload, &order) != nil || len(order.Identifiers) == 0 {
		return ""
	}
	return order.Identifiers[0].Value
}
