package dnsquery

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

const (
	defaultPort = "53"
	resolvConf  = "/etc/resolv.conf"
	maxSystem   = 3 // of resolvConf; resolv.conf(5)
)

// ParseServer returns the host:port of a DNS server, which is a host name or an IP
// address, with or without a port.
func ParseServer(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = text, defaultPort
		if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
			host = strings.TrimSuffix(inner, "]")
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || !isAddr(host) && (strings.HasPrefix(text, "[") || !isHost(host)) {
		return "", fmt.Errorf("%q is not a DNS server; use a name or an address such as ns1.example.com, 192.0.2.53 or [2001:db8::53]:53", text)
	}
	return net.JoinHostPort(host, port), nil
}

func isAddr(text string) bool {
	addr, err := netip.ParseAddr(text)
	return err == nil && (addr.Zone() == "" || isHost(addr.Zone()))
}

func isHost(name string) bool {
	if name == "" || len(name) > 253 || strings.Trim(name, ".") == "" {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
	})
}

// SystemResolvers returns the resolvers of this system as host:port, at least one.
func SystemResolvers() ([]string, error) {
	conf, err := dns.ClientConfigFromFile(resolvConf)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", resolvConf, err)
	}
	var servers []string
	for _, server := range conf.Servers[:min(len(conf.Servers), maxSystem)] {
		servers = append(servers, net.JoinHostPort(server, conf.Port))
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("%s names no resolver", resolvConf)
	}
	return servers, nil
}
