package connlimit_test

import (
	"fmt"
	"net"
	"net/http"

	"github.com/acmeproxy/acmeproxy/pkg/connlimit"
)

func ExampleNew() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	limited := connlimit.New(l, connlimit.Config{
		New: connlimit.Share{Total: 100, PerParty: 10}, Completed: connlimit.Share{Total: 100, PerParty: 10},
	})
	server := &http.Server{ConnContext: connlimit.NewContext}
	serve := func() error { return server.Serve(limited) }
	_ = serve
}
