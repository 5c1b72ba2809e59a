package rest_test

import (
	"net/http"

	"github.com/acmeproxy/acmeproxy/pkg/frontend/rest"
)

func ExampleNew() {
	serve := func(cfg rest.Config) error {
		server := &http.Server{Addr: ":443", Handler: rest.New(cfg)}
		return server.ListenAndServeTLS("", "")
	}
	_ = serve
}
