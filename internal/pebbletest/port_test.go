package pebbletest

import (
	"net"
	"testing"
)

func TestFreePort(t *testing.T) {
	t.Parallel()
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	if port < firstPort || port > lastPort {
		t.Errorf("port %d is not between %d and %d", port, firstPort, lastPort)
	}
}

// A port that is taken on one address, or by one protocol, is not free.
func TestIsFree(t *testing.T) {
	t.Parallel()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	if port := tcp.Addr().(*net.TCPAddr).Port; isFree(port) {
		t.Errorf("port %d is called free, but it is in use on TCP", port)
	}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	if port := udp.LocalAddr().(*net.UDPAddr).Port; isFree(port) {
		t.Errorf("port %d is called free, but it is in use on UDP", port)
	}
	ports, err := freePorts(20)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[int]bool)
	for _, p := range ports {
		if seen[p] {
			t.Errorf("port %d twice", p)
		}
		seen[p] = true
	}
}
