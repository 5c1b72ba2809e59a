package admin_test

import (
	"net"
	"net/http"

	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
)

func ExampleNew() {
	serve := func(l net.Listener, cfg admin.Config) error { return http.Serve(l, admin.New(cfg)) }
	_ = serve
}
