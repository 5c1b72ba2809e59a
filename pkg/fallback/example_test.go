package fallback_test

import (
	"net/http"

	"github.com/acmeproxy/acmeproxy/pkg/fallback"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

func ExampleRedirect() {
	handler := fallback.Redirect(responder.New())
	server := &http.Server{Addr: ":80", Handler: handler}
	_ = server.ListenAndServe
}
