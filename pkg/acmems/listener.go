package acmems

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Listener is an address to listen at.
type Listener struct {
	Host string // IP address, with a zone if it has one, or a host name
	Port uint16
	Line int // 0 if it is a default
}

// Address returns host:port.
func (l Listener) Address() string {
	return net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port)))
}

// Network returns the network for net.Listen. An IPv6 address never stands for IPv4, too. A
// host name has an address of either kind or of both; the caller must resolve it, because
// net.Listen uses one address only.
func (l Listener) Network() string {
	switch addr, err := netip.ParseAddr(l.Host); {
	case err != nil:
		return "tcp"
	case addr.Is4():
		return "tcp4"
	}
	return "tcp6"
}

// IsLoopback reports whether only this host can connect. It returns false for a host name
// other than localhost.
func (l Listener) IsLoopback() bool {
	addr, err := netip.ParseAddr(l.Host)
	return err == nil && addr.IsLoopback() || strings.EqualFold(l.Host, "localhost")
}

// parseListener reads a value such as 192.0.2.13:1313, [::1]:1313 or [fe80::1%eth0]:1313.
func (p *parser) parseListener(o option) (Listener, bool) {
	at := strings.LastIndexByte(o.value, ':')
	if at < 0 {
		p.failAt(o, "%q has no port, and unix sockets are not supported; write one such as 127.0.0.1:1313", o.value)
		return Listener{}, false
	}
	host := o.value[:at]
	if inner, ok := strings.CutPrefix(host, "["); ok && strings.HasSuffix(inner, "]") {
		host = strings.TrimSuffix(inner, "]")
	}
	port, err := strconv.ParseUint(strings.TrimSpace(o.value[at+1:]), 10, 16)
	if err != nil || !isHost(host) {
		p.failAt(o, "%q is not an address and a port; write one such as 127.0.0.1:1313 or [::1]:1313", o.value)
		return Listener{}, false
	}
	return Listener{host, uint16(port), o.line}, true
}

func isHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return !strings.ContainsFunc(addr.Zone(), notHostRune)
	}
	return host != "" && len(host) <= 253 && strings.Trim(host, ".") != "" && !strings.ContainsFunc(host, notHostRune)
}

func notHostRune(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
}
