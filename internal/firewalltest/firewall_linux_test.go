package firewalltest

import (
	"bytes"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
)

// The three modes work across a firewall that lets the private host reach only port
// 443 of the proxy, and no host reach the private host (A1, A17, A18, A20).
func TestThreeModes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebbletest.ProcessOptions{})
	w.drops()
	tried := w.dmz.counter("dmz_to_lan")

	// acme-client: for the DMZ host itself
	w.serve("--hostname", "acmeproxy.example.com", "--domain", "www.example.com", "--certificate-obtained-hook", "echo $RENEWED_DOMAINS >>hooks.log")
	watch.Until(t, "the proxy's own certificates are there", func() bool {
		hooks, _ := os.ReadFile(w.path("hooks.log"))
		return bytes.Count(hooks, []byte("\n")) == 2
	})
	w.verify(w.path("data/certs/acmeproxy.example.com"), "acmeproxy.example.com")
	w.verify(w.path("data/certs/www.example.com"), "www.example.com")

	// certificate-agent and acme-gateway: for the private host
	w.enroll("*.web1.example.com")
	w.acmeproxy(w.lan, "remote", "get", "agent.web1.example.com", "--out", "agent")
	w.verify(w.path("agent"), "agent.web1.example.com")
	w.acmeproxy(w.lan, "remote", "get", "gateway.web1.example.com", "--mode", "gateway", "--out", "gateway")
	w.verify(w.path("gateway"), "gateway.web1.example.com")
	keepsNo(t, w.path("data"), "gateway.web1.example.com")

	// the daemon
	config := "certificates:\n  - {names: [kept.web1.example.com], mode: agent, out: " + w.path("kept") + "}\n"
	if err := os.WriteFile(w.path("remote.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start(w.lan, "remote", "run", "--config", w.path("remote.yaml"), "--poll", "1s")
	watch.Until(t, "the daemon has its certificate", func() bool { return installed(w.path("kept")) })
	w.verify(w.path("kept"), "kept.web1.example.com")

	if got := w.lan.listening(); len(got) > 0 {
		t.Errorf("the private host listens at %v", got)
	}
	if n := w.lan.counter("arrived"); n != 0 {
		t.Errorf("%d packets of connections from outside have come to the private host", n)
	}
	if n := w.dmz.counter("dmz_to_lan"); n != tried {
		t.Errorf("the proxy has tried to reach the private host: %d packets", n-tried)
	}
	if got := w.orders(); got != 5 {
		t.Errorf("%d orders for five certificates", got)
	}
}

// drops shows that the firewall blocks each closed path: a server listens at its end, the connection fails, and the firewall has counted the packets.
func (w *world) drops() {
	w.t.Helper()
	private := w.lan.listen(lanAddr + ":443")
	defer private.Close()
	for _, port := range []string{":80", ":443"} {
		defer w.dmz.listen("0.0.0.0" + port).Close()
	}
	defer w.internet.listen(internetAddr + ":443").Close()
	for _, open := range []struct {
		from     *host
		to, port string
	}{
		{w.lan, lanAddr, "443"},           // itself
		{w.internet, internetAddr, "443"}, // itself
		{w.internet, dmzWAN, "80"},
		{w.lan, dmzLAN, "443"},
		{w.dmz, internetAddr, "443"},
	} {
		if !reaches(open.from, open.to, open.port) {
			w.t.Errorf("%s cannot reach %s:%s", open.from.name, open.to, open.port)
		}
	}
	for _, closed := range []struct {
		from              *host
		to, port, counter string
	}{
		{w.internet, lanAddr, "443", "internet_to_lan"},
		{w.dmz, lanAddr, "443", "dmz_to_lan"},
		{w.lan, internetAddr, "443", "lan_to_internet"},
		{w.internet, dmzWAN, "443", "internet_to_dmz"},
		{w.lan, dmzLAN, "80", "lan_to_dmz"},
	} {
		before := w.dmz.counter(closed.counter)
		if reaches(closed.from, closed.to, closed.port) {
			w.t.Errorf("%s reaches %s:%s", closed.from.name, closed.to, closed.port)
		}
		if w.dmz.counter(closed.counter) == before {
			w.t.Errorf("%s to %s:%s was stopped by something else than the firewall", closed.from.name, closed.to, closed.port)
		}
	}
}

// keepsNo searches a folder for a text that must be nowhere.
func keepsNo(t *testing.T, dir, text string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(text)) {
			t.Errorf("%s is in %s", text, path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A private host whose only way out is an HTTP proxy reaches the DMZ through
// that, with its own key and the pinned one (A20).
func TestOutboundProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebbletest.ProcessOptions{})
	w.serve()
	w.dmz.nft("flush set inet firewall open\nadd element inet firewall open { 3128 }")
	if before := w.dmz.counter("lan_to_dmz"); reaches(w.lan, dmzLAN, "443") || w.dmz.counter("lan_to_dmz") == before {
		t.Fatal("the private host reaches the proxy without the HTTP proxy")
	}
	var tunnels atomic.Int32
	way := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != dmzLAN+":443" {
			http.Error(rw, "only CONNECT to the proxy", http.StatusForbidden)
			return
		}
		tunnels.Add(1)
		w.tunnel(rw, r)
	})}
	l := w.dmz.listen(dmzLAN + ":3128")
	go func() { _ = way.Serve(l) }()
	t.Cleanup(func() { way.Close() })

	out := "HTTPS_PROXY=http://" + dmzLAN + ":3128"
	w.enroll("web1.example.com", out)
	w.acmeproxy(w.lan, out, "remote", "get", "web1.example.com", "--out", "agent")
	w.verify(w.path("agent"), "web1.example.com")
	w.acmeproxy(w.lan, out, "remote", "get", "web1.example.com", "--mode", "gateway", "--out", "gateway")
	w.verify(w.path("gateway"), "web1.example.com")
	if tunnels.Load() < 3 {
		t.Errorf("%d tunnels for three calls", tunnels.Load())
	}
	if n := w.lan.counter("arrived"); n != 0 {
		t.Errorf("%d packets of connections from outside have come to the private host", n)
	}
}

// tunnel is the second half of CONNECT (RFC 9110, section 9.3.6).
func (w *world) tunnel(rw http.ResponseWriter, r *http.Request) {
	far, err := w.dmz.dial(r.Context(), "tcp4", r.Host)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadGateway)
		return
	}
	defer far.Close()
	near, buffered, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		w.t.Error(err)
		return
	}
	defer near.Close()
	if _, err := io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(far, buffered) // the first side to close ends both
		far.Close()
	}()
	_, _ = io.Copy(near, far)
}

// A short break of the CA's link while it validates has no effect: the first order
// succeeds (X7).
func TestUplinkFlaps(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebbletest.ProcessOptions{})
	w.serve()
	w.enroll("web1.example.com")
	w.hold()
	get := w.start(w.lan, "remote", "get", "web1.example.com", "--out", "ssl")
	watch.Until(t, "the CA validates", func() bool { return w.dmz.counter("held") > 0 })
	w.cut("wan")
	w.release()
	if reaches(w.internet, dmzWAN, "80") {
		t.Error("the CA reaches the proxy over a link that is cut")
	}
	w.restore("wan")
	if out, err := get.wait(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.verify(w.path("ssl"), "web1.example.com")
	if w.orders() != 1 {
		t.Errorf("%d orders", w.orders())
	}
}

// The CA's side is cut off after finalize, for so long that the proxy gives up.
// When the link is back it finishes the order that it had begun (X7).
func TestUplinkLost(t *testing.T) {
	t.Parallel()
	// Finalized orders are polled after two seconds: time to cut the link.
	w := newWorld(t, pebbletest.ProcessOptions{RetryAfterOrder: 2})
	proxy := w.serve()
	w.enroll("web1.example.com")
	w.start(w.lan, "remote", "get", "web1.example.com", "--out", "first") // which may fail when the proxy does
	watch.Until(t, "the CA issues", func() bool { return w.issued() == 1 })
	w.cut("wan")
	watch.Until(t, "the proxy gives up for now", func() bool { return strings.Contains(proxy.out.String(), "no certificate yet") })
	if reaches(w.dmz, internetAddr, "443") {
		t.Error("the proxy reaches the CA's side over a link that is cut")
	}
	if installed(w.path("first")) {
		t.Fatal("the certificate came over a link that is cut")
	}
	w.restore("wan")
	watch.Until(t, "the proxy has the certificate", func() bool {
		out, err := w.start(w.lan, "remote", "get", "web1.example.com", "--out", "ssl").wait()
		if err != nil && !strings.Contains(out, "the proxy tries again at") {
			t.Fatalf("%v\n%s", err, out)
		}
		return err == nil
	})
	w.verify(w.path("ssl"), "web1.example.com")
	if w.orders() != 1 || w.issued() != 1 {
		t.Errorf("%d orders and %d certificates", w.orders(), w.issued())
	}
}

// The private side is cut off in the middle of an issuance. In agent mode the
// proxy goes on, and the daemon has the certificate when the link is back; in
// gateway mode the answer waits on the way (A12, X7).
func TestPrivateLinkLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebbletest.ProcessOptions{})
	w.serve()
	w.enroll("*.web1.example.com")
	config := "certificates:\n  - {names: [agent.web1.example.com], mode: agent, out: " + w.path("agent") + "}\n"
	if err := os.WriteFile(w.path("remote.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	w.interrupted("agent", "remote", "run", "--config", w.path("remote.yaml"), "--poll", "1s")
	w.interrupted("gateway", "remote", "get", "gateway.web1.example.com", "--mode", "gateway", "--out", "gateway")
	if w.orders() != 2 || w.issued() != 2 {
		t.Errorf("%d orders and %d certificates, want two", w.orders(), w.issued())
	}
}

// interrupted makes acmeproxy get a certificate, cuts the private link while the CA
// validates, and restores it when the CA has issued.
func (w *world) interrupted(mode string, args ...string) {
	w.t.Helper()
	issued, held := w.issued(), w.dmz.counter("held")
	w.hold()
	w.start(w.lan, args...)
	watch.Until(w.t, "the CA validates", func() bool { return w.dmz.counter("held") > held })
	w.cut("lan")
	w.release()
	watch.Until(w.t, "the CA issues although the private link is cut", func() bool { return w.issued() > issued })
	if reaches(w.lan, dmzLAN, "443") {
		w.t.Error("the private host reaches the proxy over a link that is cut")
	}
	if installed(w.path(mode)) {
		w.t.Error("the certificate came over a link that is cut")
	}
	w.restore("lan")
	watch.Until(w.t, "the certificate is there", func() bool { return installed(w.path(mode)) })
	w.verify(w.path(mode), mode+".web1.example.com")
}
