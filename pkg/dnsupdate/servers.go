package dnsupdate

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
)

const defaultPort = "53"

func isSeparator(r rune) bool { return r == ',' || unicode.IsSpace(r) }

// ParseServers reads a list, separated by commas or white space, of host names
// and addresses, each with a port or not, and returns them as host:port.
func ParseServers(text string) ([]string, error) {
	var servers []string
	for _, one := range strings.FieldsFunc(text, isSeparator) {
		server, ok := parseServer(one)
		if !ok {
			return nil, fmt.Errorf("%q is no name server; write such as ns1.example.com, 192.0.2.53:53 or [2001:db8::53]", one)
		}
		servers = append(servers, server)
	}
	switch {
	case len(servers) == 0:
		return nil, errors.New("no name server; write such as ns1.example.com or 192.0.2.53")
	case len(servers) > maxServers:
		return nil, fmt.Errorf("%d name servers are too many; write %d at most", len(servers), maxServers)
	}
	return servers, nil
}

func parseServer(text string) (string, bool) {
	if isAddr(text) {
		return net.JoinHostPort(text, defaultPort), true
	}
	if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
		text += ":" + defaultPort
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = text, defaultPort
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", false
	}
	if !isAddr(host) && (strings.HasPrefix(text, "[") || !isHost(host)) {
		return "", false
	}
	return net.JoinHostPort(host, port), true
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
