package acmeserver

import (
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
)

// The keys of many accounts do not fill the memory, and each is still found.
func TestParsedKeysAreBounded(t *testing.T) {
	var p parsedKeys
	for range 2*maxParsedKeys + 10 {
		key := rawacme.NewKey()
		jwk := rawacme.JSON(rawacme.JWK(key.Public()))
		for range 2 {
			k, err := p.parse(jwk)
			if err != nil {
				t.Fatal(err)
			}
			if k.Thumbprint() != rawacme.Thumbprint(key.Public()) {
				t.Fatalf("the key of %s has the thumbprint %s", jwk, k.Thumbprint())
			}
		}
		if len(p.keys) > maxParsedKeys {
			t.Fatalf("%d keys are remembered", len(p.keys))
		}
	}
	if _, err := p.parse([]byte("{}")); err == nil {
		t.Error("{} is a key")
	}
}
