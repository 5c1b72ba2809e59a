package challenge_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// A CA fetches the answer from port 80 of the name.
func ExampleFromMemory() {
	port80 := responder.New()
	solver := challenge.FromMemory(acme.HTTP01, challenge.Memory{HTTP01: port80})
	defer solver.Close()
	answer, err := solver.Present(context.Background(), challenge.Challenge{
		Name: "www.example.com", Token: "token", KeyAuthorization: "token.thumbprint",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer answer.Remove()
	w := httptest.NewRecorder()
	port80.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://www.example.com"+responder.Prefix+"token", nil))
	fmt.Println(w.Body)
	<-answer.Fetched()
	// Output: token.thumbprint
}

// Wildcards need DNS-01, and addresses never take it.
func ExampleTypes() {
	fmt.Println(challenge.Types(acme.HTTP01, false, true))
	fmt.Println(challenge.Types(acme.DNS01, true, false))
	// Output:
	// [dns-01]
	// [http-01 tls-alpn-01]
}
