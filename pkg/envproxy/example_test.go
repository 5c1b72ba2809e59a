package envproxy_test

import (
	"fmt"
	"os"

	"github.com/acmeproxy/acmeproxy/pkg/envproxy"
)

func ExampleCheck() {
	if err := envproxy.Check(os.Getenv, envproxy.HTTPS); err != nil {
		fmt.Println("set it to a URL such as http://proxy.example.com:3128:", err)
	}
}
