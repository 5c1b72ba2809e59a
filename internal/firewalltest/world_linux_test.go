package firewalltest

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/cmd"
	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// programVariable makes this test's program be acmeproxy.
const programVariable = "ACMEPROXY_FIREWALLTEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) == "1" {
		os.Exit(cmd.Execute())
	}
	os.Exit(m.Run())
}

// The addresses are of RFC 5737 and RFC 1918.
const (
	internetAddr = "198.51.100.1"
	dmzWAN       = "198.51.100.2"
	dmzLAN       = "10.77.0.1"
	lanAddr      = "10.77.0.2"
)

// firewall is the DMZ host's. Each way that is closed has a counter; gate is
// where a test holds the CA's validation back.
const firewall = `
table inet firewall {
	counter internet_to_lan {}
	counter lan_to_internet {}
	counter dmz_to_lan {}
	counter internet_to_dmz {}
	counter lan_to_dmz {}
	counter held {}
	set open {
		type inet_service
		elements = { 443 }
	}
	chain gate {
	}
	chain forward {
		type filter hook forward priority 0; policy drop;
		iifname "wan" oifname "lan" counter name internet_to_lan drop
		iifname "lan" oifname "wan" counter name lan_to_internet drop
	}
	chain input {
		type filter hook input priority 0; policy drop;
		iifname "lo" accept
		ct state established,related accept
		iifname "wan" tcp dport 80 jump gate
		iifname "wan" tcp dport 80 accept
		iifname "lan" tcp dport @open accept
		iifname "wan" counter name internet_to_dmz
		iifname "lan" counter name lan_to_dmz
	}
	chain output {
		type filter hook output priority 0; policy accept;
		oifname "lan" ct state new counter name dmz_to_lan drop
	}
}`

// witness counts connections that were begun from outside and have come to the
// private host.
const witness = `
table inet firewall {
	counter arrived {}
	chain input {
		type filter hook input priority 0; policy accept;
		iifname "dmz" meta l4proto { tcp, udp } ct state new counter name arrived
	}
}`

// world is the three networks with a CA and what else a test starts.
type world struct {
	t                  *testing.T
	internet, dmz, lan *host
	ca                 *pebbletest.Process
	dir                string
}

var worlds atomic.Int32 // tests that run at once need different names

// newWorld makes the networks and starts the CA, or skips the test.
func newWorld(t *testing.T, o pebbletest.ProcessOptions) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP: network namespaces need root; run the tests as root to have this one")
	}
	pebbletest.Tool(t, "ip")
	pebbletest.Tool(t, "nft")
	w := &world{t: t, dir: t.TempDir()}
	prefix := fmt.Sprintf("apx%d-%d-", os.Getpid(), worlds.Add(1))
	for name, h := range map[string]**host{"internet": &w.internet, "dmz": &w.dmz, "lan": &w.lan} {
		var err error
		if *h, err = newHost(t, prefix+name); err != nil {
			impossible(t, err)
		}
	}
	w.connect()
	o.HTTPPort = 80
	o.Net = &pebbletest.Network{Host: internetAddr, Target: dmzWAN, Command: w.internet.command(), Dial: w.internet.dial}
	w.ca = pebbletest.StartProcess(t, o)
	return w
}

// impossible ends a test where this machine allows no namespaces.
func impossible(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("ACMEPROXY_REQUIRE_TOOLS") == "1" {
		t.Fatalf("no network namespace, and ACMEPROXY_REQUIRE_TOOLS=1 says that there must be: %v", err)
	}
	t.Skipf("SKIP: no network namespaces on this machine: %v", err)
}

// connect lays the two cables and puts the firewall up.
func (w *world) connect() {
	w.t.Helper()
	w.cable(w.dmz, "wan", dmzWAN, w.internet, "dmz", internetAddr)
	w.cable(w.dmz, "lan", dmzLAN, w.lan, "dmz", lanAddr)
	w.internet.ip("route", "add", "default", "via", dmzWAN)
	w.lan.ip("route", "add", "default", "via", dmzLAN)
	if err := w.dmz.do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
	}); err != nil {
		w.t.Fatal(err)
	}
	w.dmz.nft(firewall)
	w.lan.nft(witness)
}

// cable connects a and b. b knows a's hardware address for good, so that a link
// that was cut is good again at once.
func (w *world) cable(a *host, aName, aAddr string, b *host, bName, bAddr string) {
	w.t.Helper()
	const hardware = "02:00:00:00:00:01"
	a.ip("link", "add", aName, "address", hardware, "type", "veth", "peer", "name", bName, "netns", b.name)
	a.ip("addr", "add", aAddr+"/24", "dev", aName)
	b.ip("addr", "add", bAddr+"/24", "dev", bName)
	a.ip("link", "set", aName, "up")
	b.ip("link", "set", bName, "up")
	b.ip("neigh", "replace", aAddr, "lladdr", hardware, "dev", bName, "nud", "permanent")
}

// cut and restore take one of the DMZ host's links, wan or lan, down and up.
func (w *world) cut(link string) { w.dmz.ip("link", "set", link, "down") }

func (w *world) restore(link string) { w.dmz.ip("link", "set", link, "up") }

// hold drops what the CA sends to port 80 until release.
func (w *world) hold() { w.dmz.nft("add rule inet firewall gate counter name held drop") }

func (w *world) release() { w.dmz.nft("flush chain inet firewall gate") }

// reaches reports whether a TCP connection is possible.
func reaches(h *host, host, port string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := h.dial(ctx, "tcp4", net.JoinHostPort(host, port))
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// process is an acmeproxy that runs on a host.
type process struct {
	cmd  *exec.Cmd
	out  watch.Log     // stdout and stderr
	done chan struct{} // closed when it has ended
	err  error         // how; set before done is closed
}

// start starts acmeproxy on a host, with more of the environment if the first
// arguments are NAME=VALUE, and ends it with the test.
func (w *world) start(h *host, args ...string) *process {
	w.t.Helper()
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "NO_COLOR=1", "GORACE=atexit_sleep_ms=0",
		programVariable + "=1",
		"LEGO_CA_CERTIFICATES=" + w.ca.ServerCAFile, "ACMEPROXY_ACME_DIRECTORY_URL=" + w.ca.DirectoryURL,
		"ACMEPROXY_DATA_DIR=" + w.path("data"), "ACMEPROXY_STATE_DIR=" + w.path("remote"),
	}
	for len(args) > 0 && strings.Contains(args[0], "=") {
		env, args = append(env, args[0]), args[1:]
	}
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	argv := append(append(h.command(), self), args...)
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir = env, w.dir
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	w.t.Cleanup(func() {
		p.stop()
		if w.t.Failed() {
			w.t.Logf("acmeproxy %s:\n%s", strings.Join(args, " "), &p.out)
		}
	})
	return p
}

// stop ends it as systemd would, and then for good.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have exited already
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// wait waits for its end, at most two minutes, and returns what it printed.
func (p *process) wait() (string, error) {
	select {
	case <-p.done:
	case <-time.After(2 * time.Minute):
		return p.out.String(), errors.New("still running after two minutes")
	}
	return p.out.String(), p.err
}

// acmeproxy runs it to its end, which must be a good one.
func (w *world) acmeproxy(h *host, args ...string) string {
	w.t.Helper()
	out, err := w.start(h, args...).wait()
	if err != nil {
		w.t.Fatalf("acmeproxy %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// serve starts the proxy with its default ports.
func (w *world) serve(args ...string) *process {
	w.t.Helper()
	p := w.start(w.dmz, append([]string{"serve", "--accept-tos"}, args...)...)
	watch.Until(w.t, "the proxy serves", func() bool {
		select {
		case <-p.done:
			w.t.Fatalf("the proxy has ended: %v\n%s", p.err, &p.out)
		default:
		}
		return strings.Contains(p.out.String(), "msg=serving")
	})
	return p
}

// enroll makes the private host a client that may have these names; env is of
// the host's side.
func (w *world) enroll(names string, env ...string) {
	w.t.Helper()
	out := w.acmeproxy(w.dmz, "clients", "add", "web1", "--allow", names, "--mode", "agent,gateway", "--url", "https://"+dmzLAN)
	for field := range strings.FieldsSeq(out) {
		if strings.HasPrefix(field, "apx1-") {
			w.acmeproxy(w.lan, append(env, "remote", "enroll", field)...)
			return
		}
	}
	w.t.Fatalf("no token:\n%s", out)
}

// orders is how many the CA has got.
func (w *world) orders() int { return strings.Count(w.ca.Log(), "Added order ") }

// issued is how many certificates the CA has made.
func (w *world) issued() int { return strings.Count(w.ca.Log(), "Issued certificate serial ") }

// verify checks a PEM set against the CA's root.
func (w *world) verify(dir string, names ...string) {
	w.t.Helper()
	b, err := certfile.Read(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	want, err := cert.ParseNames(names...)
	if err != nil {
		w.t.Fatal(err)
	}
	if got, err := b.Names(); err != nil || !got.Equal(want) {
		w.t.Errorf("the certificate in %s is for %s (%v), want %s", dir, got, err, want)
	}
	roots, chain := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(w.ca.RootsPEM)
	for _, c := range b.Chain {
		chain.AddCert(c)
	}
	if _, err := b.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: chain}); err != nil {
		w.t.Errorf("the certificate in %s: %v", dir, err)
	}
}

// installed reports whether the folder has a PEM set.
func installed(dir string) bool {
	_, err := certfile.Read(dir)
	return err == nil
}
