package responder_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

func ExampleResponder() {
	r := responder.New()
	answer := r.Put("web1.example.com", "token", "token.thumbprint")
	defer answer.Remove()
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://web1.example.com/.well-known/acme-challenge/token", nil))
	fmt.Println(w.Code, w.Body)
	// Output: 200 token.thumbprint
}
