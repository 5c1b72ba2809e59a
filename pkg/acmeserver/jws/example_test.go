package jws_test

import (
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/jws"
)

// A server reads a request that a client signed with its own key.
func Example() {
	body := []byte(`{
		"protected": "eyJhbGciOiJFZERTQSIsImp3ayI6eyJrdHkiOiJPS1AifX0",
		"payload": "",
		"signature": "AAAA"
	}`)
	m, err := jws.Parse(body, jws.ByKey)
	if err != nil {
		fmt.Println(err)
		return
	}
	payload, err := m.Verify(m.Header.Key)
	fmt.Println(m.Header.URL, string(payload), err)
	// Output: protected: url: it is missing; send the URL of the request (malformed)
}

// The thumbprint identifies a key, whatever text its JWK has.
func ExampleParseKey() {
	key, err := jws.ParseKey([]byte(`{"kty": "OKP", "crv": "Ed25519", "use": "sig",
		"x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(key.Thumbprint())
	fmt.Println(jws.KeyAuthorization("token", key))
	// Output:
	// kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k
	// token.kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k
}
