package firewalltest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// host is a network namespace.
type host struct {
	t    testing.TB
	name string
}

// run runs a program to its end.
func run(t testing.TB, stdin string, argv ...string) string {
	t.Helper()
	out, err := try(stdin, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func try(stdin string, argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// newHost makes a namespace that is gone after the test.
func newHost(t testing.TB, name string) (*host, error) {
	if _, err := try("", "ip", "netns", "add", name); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if _, err := try("", "ip", "netns", "del", name); err != nil {
			t.Error(err)
		}
	})
	h := &host{t, name}
	if _, err := try("", "ip", "-n", name, "link", "set", "lo", "up"); err != nil {
		return nil, err
	}
	return h, h.do(func() error { // IPv4 alone, so that every packet is one of ours
		err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0)
		if os.IsNotExist(err) {
			return nil
		}
		return err
	})
}

// command is what runs a program in the namespace.
func (h *host) command() []string { return []string{"ip", "netns", "exec", h.name} }

// ip changes the namespace's network.
func (h *host) ip(args ...string) {
	h.t.Helper()
	run(h.t, "", append([]string{"ip", "-n", h.name}, args...)...)
}

// nft takes rules as nft -f does.
func (h *host) nft(rules string) {
	h.t.Helper()
	run(h.t, rules, append(h.command(), "nft", "-f", "-")...)
}

// counter is the number of packets that a named counter of nftables has seen.
func (h *host) counter(name string) int {
	h.t.Helper()
	out := run(h.t, "", append(h.command(), "nft", "-j", "list", "counter", "inet", "firewall", name)...)
	var list struct {
		Nftables []struct {
			Counter *struct{ Packets int }
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		h.t.Fatalf("%s: %v", out, err)
	}
	for _, entry := range list.Nftables {
		if entry.Counter != nil {
			return entry.Counter.Packets
		}
	}
	h.t.Fatalf("no counter %s: %s", name, out)
	return 0
}

// do runs f as a thread of the namespace. Sockets that f opens stay there;
// goroutines that it starts do not.
func (h *host) do(f func() error) error {
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, so no other goroutine
		// runs in the namespace.
		runtime.LockOSThread()
		ns, err := os.Open("/var/run/netns/" + h.name)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// dial connects from the namespace to an address, not a name.
func (h *host) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	err = h.do(func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// listen listens in the namespace until the test ends or the listener is closed.
func (h *host) listen(addr string) net.Listener {
	h.t.Helper()
	var l net.Listener
	err := h.do(func() (err error) {
		l, err = net.Listen("tcp4", addr)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { l.Close() })
	return l
}

// listening lists the TCP sockets of the namespace that wait for connections,
// as proc_pid_net(5) writes them.
func (h *host) listening() []string {
	h.t.Helper()
	var found []string
	err := h.do(func() error {
		for _, table := range []string{"tcp", "tcp6"} {
			data, err := os.ReadFile("/proc/thread-self/net/" + table)
			if os.IsNotExist(err) {
				continue
			}
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(data)) {
				if fields := strings.Fields(line); len(fields) > 3 && fields[3] == "0A" {
					found = append(found, fields[1])
				}
			}
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return found
}
