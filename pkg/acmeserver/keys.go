package acmeserver

import (
	"sync"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/jws"
)

// maxParsedKeys bounds the keys that are remembered.
const maxParsedKeys = 1024

// parsedKeys remembers the keys of accounts that sent requests lately: parsing one costs
// as much as verifying a signature. Its zero value is empty.
type parsedKeys struct {
	mu   sync.Mutex
	keys map[string]*jws.Key // guarded by mu, by JWK
}

// parse returns the key of an account.
func (p *parsedKeys) parse(jwk []byte) (*jws.Key, error) {
	if k := p.find(jwk); k != nil {
		return k, nil
	}
	k, err := jws.ParseKey(jwk)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keys == nil || len(p.keys) >= maxParsedKeys {
		p.keys = map[string]*jws.Key{} // those in use come back
	}
	p.keys[string(jwk)] = k
	return k, nil
}

func (p *parsedKeys) find(jwk []byte) *jws.Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys[string(jwk)]
}
