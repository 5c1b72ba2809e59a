package auth_test

import (
	"fmt"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/auth"
)

func ExampleNewBearer() {
	token, verifier := auth.NewBearer()
	again, err := auth.BearerVerifier(token)
	fmt.Println(strings.HasPrefix(token, "apt1-"), string(again) == string(verifier), err)
	// Output: true true <nil>
}
