package envproxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"

	"github.com/acmeproxy/acmeproxy/pkg/envproxy"
)

func ExampleRefused() {
	u, _ := url.Parse("http://proxy.example.com:3128")
	connect := &http.Request{Host: "acme.example.com:443"}
	getenv := func(name string) string { return map[string]string{"HTTPS_PROXY": u.String()}[name] }
	fmt.Println(envproxy.Refused(getenv)(context.Background(), u, connect, &http.Response{StatusCode: http.StatusForbidden}))
	// Output: HTTPS_PROXY: proxy.example.com:3128 answered 403 Forbidden to CONNECT; allow connections to acme.example.com:443 there
}

func ExampleCheck() {
	if err := envproxy.Check(os.Getenv, envproxy.HTTPS); err != nil {
		fmt.Println("set it to a URL such as http://proxy.example.com:3128:", err)
	}
}
