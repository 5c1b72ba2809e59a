package publicip_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/publicip"
)

func TestSpecial(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"8.8.8.8": false, "2606:4700::1111": false, "::ffff:8.8.8.8": false,
		"127.0.0.1": true, "::1": true, "::ffff:127.0.0.1": true, "10.1.2.3": true, "172.16.0.1": true,
		"192.168.1.1": true, "169.254.169.254": true, "fe80::1": true, "fd00:ec2::254": true,
		"0.0.0.0": true, "::": true, "0.1.2.3": true, "100.64.0.1": true, "224.0.0.1": true, "ff02::1": true,
		"255.255.255.255": true, "192.0.2.1": true, "2001:db8::1": true,
		"64:ff9b::a00:1": true, "2002:a00:1::": true, "::10.0.0.1": true, "fec0::1": true,
	} {
		if got := publicip.Special(netip.MustParseAddr(addr)); (got != "") != want {
			t.Errorf("%s: %q", addr, got)
		}
	}
}

func ExampleSpecial() {
	fmt.Println(publicip.Special(netip.MustParseAddr("10.0.0.1")))
	fmt.Println(publicip.Special(netip.MustParseAddr("100.64.0.1")))
	// Output:
	// private
	// carrier-grade NAT
}
