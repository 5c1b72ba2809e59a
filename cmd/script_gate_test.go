package cmd_test

import (
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// gate is the port from which the CA fetches HTTP-01 answers. It forwards connections
// to the proxy while it is open. While it is closed, the CA's connections are refused.
type gate struct {
	addr, to string
	listener net.Listener // nil while it is closed
	running  sync.WaitGroup
}

// gateCommand opens or closes the gate of "pebble -gated": gate open|close
func gateCommand(ts *testscript.TestScript, neg bool, args []string) {
	g := state(ts).gate
	if neg || g == nil || len(args) != 1 {
		ts.Fatalf("usage: gate open|close, after pebble -gated")
	}
	switch args[0] {
	case "open":
		ts.Check(g.open())
	case "close":
		g.close()
	default:
		ts.Fatalf("usage: gate open|close")
	}
}

func newGate(to int) (*gate, int, error) {
	p, err := port()
	return &gate{addr: fmt.Sprintf("127.0.0.1:%d", p), to: fmt.Sprintf("127.0.0.1:%d", to)}, p, err
}

func (g *gate) open() (err error) {
	if g.listener != nil {
		return nil
	}
	if g.listener, err = net.Listen("tcp", g.addr); err != nil {
		return err
	}
	l := g.listener
	g.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			g.running.Go(func() { g.forward(conn) })
		}
	})
	return nil
}

func (g *gate) forward(conn net.Conn) {
	defer conn.Close()
	out, err := net.Dial("tcp", g.to)
	if err != nil {
		return
	}
	defer out.Close()
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(out, conn) })
	_, _ = io.Copy(conn, out)
	conn.Close()
	out.Close()
	both.Wait()
}

func (g *gate) close() {
	if g.listener != nil {
		g.listener.Close()
		g.listener = nil
	}
}
