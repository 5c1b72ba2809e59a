package seal_test

import (
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

func ExampleSeal() {
	id, err := seal.GenerateIdentity()
	if err != nil {
		fmt.Println(err)
		return
	}
	ciphertext, err := seal.Seal([]byte("key and chain"), id.Recipient())
	if err != nil {
		fmt.Println(err)
		return
	}
	plain, err := seal.Open(ciphertext, id)
	fmt.Println(string(plain), err)
	// Output: key and chain <nil>
}
