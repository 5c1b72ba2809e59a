package issuer

import (
	"context"
	"crypto"
	"runtime"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/fair"
)

// reserveFactor is how many places there are beyond InFlight, for each of
// those, to give one to each client that holds none. Orders that do not end,
// because their names do not answer, thus delay the clients that asked for them.
const reserveFactor = 3

func newPlaces(inFlight int) *fair.Places {
	return fair.New(fair.Limits{Total: inFlight, PerClient: max(inFlight/2, 1), Reserve: reserveFactor * inFlight})
}

// keyPlaces share the processors among clients that need RSA keys. Such a key
// takes up to seconds and cannot be cancelled, so the longest ones have a place
// of their own: a shorter one never waits for them.
type keyPlaces struct{ short, long *fair.Places }

func newKeyPlaces() keyPlaces {
	places := func() *fair.Places { return fair.New(fair.Limits{Total: max(runtime.NumCPU()/2, 1)}) }
	return keyPlaces{short: places(), long: places()}
}

// of returns the places for a type of key; nil if it costs nothing.
func (k keyPlaces) of(t cert.KeyType) *fair.Places {
	switch t {
	case cert.RSA2048, cert.RSA4096:
		return k.short
	case cert.RSA8192:
		return k.long
	}
	return nil
}

// generate waits for the client's turn, which it tells queued, and generates a
// key. The wait ends with ctx, the work does not.
func (k keyPlaces) generate(ctx context.Context, client string, t cert.KeyType, queued func()) (crypto.Signer, error) {
	if places := k.of(t); places != nil {
		release, err := places.Acquire(ctx, client, queued)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	return cert.GenerateKey(t)
}

// GenerateKey generates a key for a client, the proxy itself if that is empty,
// within the client's share of the processors.
func (p *Pool) GenerateKey(ctx context.Context, client string, t cert.KeyType) (crypto.Signer, error) {
	return p.keys.generate(ctx, client, t, nil)
}
