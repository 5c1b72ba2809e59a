package pebbletest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports are picked below the range from which kernels take the source ports of
// outgoing connections (32768 and up on Linux, 49152 and up elsewhere), so that
// a connection of another test cannot take one between pick and use.
const (
	firstPort    = 20000
	lastPort     = 31999
	portAttempts = 100
)

// given are the ports that this process has had: none comes twice, or two that
// look at the same moment could get the same one.
var given sync.Map // ports are the process's

// FreePort returns a port on which nothing listens, neither on TCP nor on UDP.
// It is not reserved: listen on it soon.
func FreePort() (int, error) {
	for range portAttempts {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if _, had := given.LoadOrStore(port, true); !had && isFree(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("find a free port: %d ports between %d and %d tried, all in use", portAttempts, firstPort, lastPort)
}

// freePorts returns n different free ports.
func freePorts(n int) ([]int, error) {
	var ports []int
	seen := make(map[int]bool)
	for len(ports) < n {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		if !seen[port] {
			seen[port] = true
			ports = append(ports, port)
		}
	}
	return ports, nil
}

func isFree(port int) bool {
	addr := fmt.Sprintf(":%d", port)
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	udp, err := net.ListenPacket("udp", addr)
	if err != nil {
		_ = tcp.Close()
		return false
	}
	return errors.Join(tcp.Close(), udp.Close()) == nil
}
