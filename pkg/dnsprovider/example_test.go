package dnsprovider_test

import (
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/dnsprovider"
)

func ExampleNames() {
	fmt.Println(dnsprovider.Names())
	// Output: [acme-dns exec httpreq rfc2136]
}
