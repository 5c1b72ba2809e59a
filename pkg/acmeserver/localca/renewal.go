package localca

import (
	"context"
	"encoding/base64"
	"math/big"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// soon is the time in which certificates are renewed after a revocation or a rotation.
const soon = 2 * day

// RenewalInfo implements acmeserver.RenewalInformer. It suggests a window after two
// thirds of the lifetime, at once for a revoked certificate, and within two days after a
// rotation for one of an earlier generation.
func (ca *CA) RenewalInfo(_ context.Context, c acmeserver.Certificate) (acmeserver.RenewalInfo, error) {
	life := c.NotAfter.Sub(c.NotBefore)
	start := c.NotBefore.Add(life * 2 / 3)
	end := start.Add(life / 30)
	g, revoked := ca.find(c)
	newest := ca.current()
	switch {
	case revoked:
		now := ca.cfg.Now()
		start, end = now.Add(-time.Hour), now.Add(-time.Minute) // RFC 9773, section 4.2: in the past
	case g != nil && g != newest:
		rotated := newest.createdAt()
		start, end = earlierOf(start, rotated), earlierOf(end, rotated.Add(soon))
	}
	return acmeserver.RenewalInfo{Start: start.UTC(), End: end.UTC()}, nil
}

// find returns the generation that issued a certificate, or nil, and whether the
// certificate is revoked.
func (ca *CA) find(c acmeserver.Certificate) (found *generation, revoked bool) {
	revoked = !c.RevokedAt.IsZero()
	keyID, serial, _ := strings.Cut(c.ARIID, ".") // RFC 9773, section 4.1
	id, err := base64.RawURLEncoding.DecodeString(keyID)
	if err != nil {
		return nil, revoked
	}
	digits, err := base64.RawURLEncoding.DecodeString(serial)
	if err != nil {
		return nil, revoked
	}
	for _, g := range *ca.generations.Load() {
		if string(g.issuing.cert.SubjectKeyId) == string(id) {
			return g, revoked || ca.revoked.has(g.issuing.name, new(big.Int).SetBytes(digits))
		}
	}
	return nil, revoked
}
