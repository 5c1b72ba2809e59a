package rest

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// renewedMeanwhile is agent mode in the moment when a renewal ends between the
// revocation and its answer.
type renewedMeanwhile struct {
	Agent
	row managed.Certificate
}

func (a renewedMeanwhile) Revoke(context.Context, clients.Identity, cert.Revocation, bool) (managed.Certificate, error) {
	return a.row, nil
}

// If a newer certificate exists already, the answer has no time of the next attempt
// (D4).
func TestRevokeRenewedMeanwhile(t *testing.T) {
	t.Parallel()
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.example.com"}, NotAfter: time.Now().Add(time.Hour)}
	old, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	due := time.Now().Add(60 * 24 * time.Hour)
	f := &frontend{
		Config:  Config{Agent: renewedMeanwhile{row: managed.Certificate{ID: "1", Serial: "another", DueAt: due}}, Now: time.Now},
		streams: newInFlight("gateway requests", streamLimits),
	}
	ctx := context.WithValue(t.Context(), identityKey{}, clients.Identity{Client: clients.Client{ID: "c"}})
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: old})
	out, err := f.revoke(ctx, &revokeInput{Body: api.RevokeRequest{Certificate: string(leaf)}})
	if err != nil {
		t.Fatal(err)
	}
	if out.Body.ID != "1" || out.Body.NextAttempt != nil || out.Body.RetryAfter != 0 {
		t.Errorf("%+v", out.Body)
	}
}
