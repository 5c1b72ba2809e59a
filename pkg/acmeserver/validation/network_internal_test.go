package validation

import (
	"net/netip"
	"testing"
)

// Public addresses are always allowed, others by a prefix, and metadata only by its own.
func TestAllows(t *testing.T) {
	t.Parallel()
	prefixes := func(all ...string) (p []netip.Prefix) {
		for _, text := range all {
			p = append(p, netip.MustParsePrefix(text))
		}
		return p
	}
	everything := prefixes("0.0.0.0/0", "::/0")
	for addr, test := range map[string]struct {
		allow []netip.Prefix
		want  bool
	}{
		"8.8.8.8":              {nil, true},
		"2606:4700::1111":      {nil, true},
		"127.0.0.1":            {nil, false},
		"127.0.0.2":            {prefixes("127.0.0.0/8"), true},
		"::1":                  {PrivateNetworks(), false},
		"::ffff:127.0.0.1":     {PrivateNetworks(), false},
		"10.1.2.3":             {PrivateNetworks(), true},
		"::ffff:10.1.2.3":      {PrivateNetworks(), true},
		"10.1.2.4":             {nil, false},
		"172.31.0.1":           {PrivateNetworks(), true},
		"172.32.0.1":           {nil, true},
		"192.168.0.1":          {PrivateNetworks(), true},
		"100.64.0.1":           {PrivateNetworks(), true},
		"fd12::1":              {PrivateNetworks(), true},
		"fe80::1":              {PrivateNetworks(), false},
		"169.254.1.1":          {everything, true},
		"169.254.169.254":      {everything, false},
		"::ffff:169.254.170.2": {everything, false},
		"fd00:ec2::254":        {PrivateNetworks(), false},
		"100.100.100.200":      {PrivateNetworks(), false},
		"168.63.129.16":        {nil, false},
		"192.0.0.192":          {prefixes("192.0.0.192/32"), true},
		"64:ff9b::a00:1":       {PrivateNetworks(), false},
		"2002:a00:1::":         {PrivateNetworks(), false},
	} {
		n := Network{Allow: test.allow}
		if got := n.allows(netip.MustParseAddr(addr)); got != test.want {
			t.Errorf("%s: %t", addr, got)
		}
	}
}
