package checks_test

import (
	"fmt"
	"net/netip"

	"github.com/acmeproxy/acmeproxy/pkg/checks"
)

func ExampleRefuse() {
	nowhere := func(netip.Addr) bool { return false }
	fmt.Println(checks.Refuse(netip.MustParseAddr("10.0.0.1"), nowhere))
	// Output: a CA cannot reach it (private), and it is not this proxy's
}
