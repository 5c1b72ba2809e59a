package acmeserver

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// nonces creates nonces and accepts each of them once (RFC 8555, section 6.5). A nonce
// is a random id, its expiry and a MAC of both, so creating one stores nothing. The
// MAC's key is in the storage. So all Servers of one storage accept each other's
// nonces, also after a restart.
type nonces struct {
	storage NonceStorage
	life    time.Duration
	now     func() time.Time
	key     atomic.Pointer[[]byte] // nil until it was read
}

// The parts of a nonce in bytes. Their sum is divisible by three, so base64url has one
// form of each.
const (
	nonceID     = 16
	nonceExpiry = 5 // seconds since 1970
	nonceMAC    = 15
	nonceSize   = nonceID + nonceExpiry + nonceMAC

	nonceSecret = "nonce" // name of the MAC's key in the storage
)

// create returns a new nonce.
func (n *nonces) create(ctx context.Context) (string, error) {
	key, err := n.secret(ctx)
	if err != nil {
		return "", err
	}
	b := make([]byte, nonceID, nonceSize+nonceExpiry)
	rand.Read(b)
	expires := binary.BigEndian.AppendUint64(nil, uint64(n.now().Add(n.life).Unix()))
	b = append(b, expires[len(expires)-nonceExpiry:]...)
	return base64.RawURLEncoding.EncodeToString(append(b, macOf(key, b)...)), nil
}

// check returns when a nonce expires, or the problem badNonce if it is not one of ours
// or expired. It does not access the storage apart from the first time.
func (n *nonces) check(ctx context.Context, nonce string) (expires time.Time, err error) {
	key, err := n.secret(ctx)
	if err != nil {
		return time.Time{}, err
	}
	b, err := base64.RawURLEncoding.DecodeString(nonce)
	switch {
	case err != nil || strings.ContainsAny(nonce, "\r\n"): // RFC 8555, section 6.5.2
		return time.Time{}, problem(acme.Malformed, 0, "nonce: it must be base64url without padding")
	case len(b) != nonceSize:
		return time.Time{}, badNonce("it is unknown")
	}
	signed := nonceID + nonceExpiry
	if !hmac.Equal(b[signed:], macOf(key, b[:signed])) {
		return time.Time{}, badNonce("it is unknown")
	}
	var seconds [8]byte
	copy(seconds[8-nonceExpiry:], b[nonceID:signed])
	expires = time.Unix(int64(binary.BigEndian.Uint64(seconds[:])), 0)
	if !n.now().Before(expires) {
		return time.Time{}, badNonce("it expired")
	}
	return expires, nil
}

// use uses up a nonce that passed check. It returns the problem badNonce if it was used.
func (n *nonces) use(ctx context.Context, nonce string, expires time.Time) error {
	b, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(b) != nonceSize {
		return badNonce("it is unknown")
	}
	err = n.storage.UseNonce(ctx, base64.RawURLEncoding.EncodeToString(b[:nonceID]), expires)
	if errors.Is(err, ErrExists) {
		return badNonce("it was used already")
	}
	if err != nil {
		return fmt.Errorf("use a nonce: %w", err)
	}
	return nil
}

func badNonce(why string) error {
	return problem(acme.BadNonce, http.StatusBadRequest, "nonce: "+why+"; use the new one of this answer")
}

func macOf(key, b []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(b)
	return m.Sum(nil)[:nonceMAC]
}

// secret returns the key of the MAC. The first Server of a storage creates it.
func (n *nonces) secret(ctx context.Context) ([]byte, error) {
	if key := n.key.Load(); key != nil {
		return *key, nil
	}
	key := make([]byte, sha256.Size)
	rand.Read(key)
	key, err := n.storage.Secret(ctx, nonceSecret, key)
	if err != nil {
		return nil, fmt.Errorf("read the secret of nonces: %w", err)
	}
	if len(key) < sha256.Size {
		return nil, fmt.Errorf("read the secret of nonces: it has %d bytes instead of %d", len(key), sha256.Size)
	}
	n.key.Store(&key)
	return key, nil
}

// newNonce answers a request for a nonce (RFC 8555, section 7.2). The nonce is in the
// header of every answer.
func (s *Server) newNonce(req *http.Request) (*answer, error) {
	if req.Method == http.MethodHead {
		return &answer{}, nil
	}
	return &answer{status: http.StatusNoContent}, nil
}
