package issuer

import (
	"context"
	"crypto"
	"runtime"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/fair"
)

// reserveFactor is the size of the reserve as a multiple of InFlight. The reserve
// gives a place to each client that holds none. So orders that do not end, because
// their names do not answer, delay only the clients that requested them.
const reserveFactor = 3

func newPlaces(inFlight int) *fair.Places {
	return fair.New(fair.Limits{Total: inFlight, PerClient: max(inFlight/2, 1), Reserve: reserveFactor * inFlight})
}

// keyPlaces shares the processors among clients that need RSA keys. Generating one
// takes up to seconds and cannot be cancelled. The longest keys have their own
// places, so that a shorter one never waits for them.
type keyPlaces struct{ short, long *fair.Places }

func newKeyPlaces() keyPlaces {
	places := func() *fair.Places { return fair.New(fair.Limits{Total: max(runtime.NumCPU()/2, 1)}) }
	return keyPlaces{short: places(), long: places()}
}

// of returns the places for a type of key, or nil if the key is cheap.
func (k keyPlaces) of(t cert.KeyType) *fair.Places {
	switch t {
	case cert.RSA2048, cert.RSA4096:
		return k.short
	case cert.RSA8192:
		return k.long
	}
	return nil
}

// generate waits for a place for the client and generates a key. It calls queued if
// it has to wait. ctx ends the wait, but not the generation.
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

// GenerateKey generates a key for a client within its share of the processors. An
// empty client is the proxy.
func (p *Pool) GenerateKey(ctx context.Context, client string, t cert.KeyType) (crypto.Signer, error) {
	return p.shared.keys.generate(ctx, client, t, nil)
}
