package pebbletest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports are below the range of source ports of outgoing connections (32768 and up
// on Linux, 49152 and up elsewhere). So a connection of another test cannot use a
// port before the caller listens on it.
const (
	firstPort    = 20000
	lastPort     = 31999
	portAttempts = 100
)

// given holds the ports that FreePort has returned. It returns no port twice, because
// two concurrent callers could get the same one.
var given sync.Map // package state, because ports belong to the process

// FreePort returns a port that is free for TCP and UDP. It is not reserved, so listen
// on it soon.
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
