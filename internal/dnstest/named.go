package dnstest

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
)

// Named is a running BIND.
type Named struct {
	Addr string // host:port, UDP and TCP
	Port string
	Log  string // path
}

// NamedZone is a zone of Named, which is its primary.
type NamedZone struct {
	Name    string // without a full stop at the end
	Policy  string // rules of update-policy; if empty, updates are refused
	Records string // in addition to the start of authority and the name server ns1
}

// StartNamed starts BIND's name server until the test ends, with keys as tsig-keygen
// writes them. It skips the test if named is not installed.
func StartNamed(t testing.TB, keys string, zones ...NamedZone) *Named {
	t.Helper()
	installed := pebbletest.Tool(t, "named")
	dir := t.TempDir()
	// AppArmor restricts the installed program to its folders, so it runs a copy.
	program := filepath.Join(dir, "named")
	data, err := os.ReadFile(installed)
	if err != nil {
		t.Fatal(err)
	}
	write(t, program, string(data), 0o700)
	// named starts even if another test has taken the port, so retry with another.
	for timeout := 2 * time.Second; timeout <= time.Minute; timeout *= 2 {
		port, err := pebbletest.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		n := &Named{Port: strconv.Itoa(port), Log: filepath.Join(dir, "log")}
		n.Addr = net.JoinHostPort("127.0.0.1", n.Port)
		n.configure(t, dir, keys, zones)
		if n.run(t, program, dir, zones[0].Name+".", timeout) {
			return n
		}
	}
	t.Fatal("named does not answer")
	return nil
}

func (n *Named) configure(t testing.TB, dir, keys string, zones []NamedZone) {
	t.Helper()
	var conf strings.Builder
	fmt.Fprintf(&conf, `options {
	directory "%s";
	listen-on port %s { 127.0.0.1; };
	listen-on-v6 { none; };
	pid-file none; session-keyfile none;
	recursion no; notify no; dnssec-validation no;
};
controls { };
%s
`, dir, n.Port, keys)
	for _, zone := range zones {
		write(t, filepath.Join(dir, zone.Name), fmt.Sprintf("$TTL 60\n@ SOA ns1 ops 1 60 60 60 0\n@ NS ns1\nns1 A 127.0.0.1\n%s\n", zone.Records), 0o600)
		policy := ""
		if zone.Policy != "" {
			policy = "update-policy { " + zone.Policy + " };"
		}
		fmt.Fprintf(&conf, "zone \"%s\" { type primary; file \"%s\"; %s };\n", zone.Name, zone.Name, policy)
	}
	write(t, filepath.Join(dir, "named.conf"), conf.String(), 0o600)
}

func write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// run starts named and waits until it answers for a zone. After the timeout it stops
// named.
func (n *Named) run(t testing.TB, program, dir, zone string, timeout time.Duration) bool {
	t.Helper()
	log, err := os.Create(n.Log)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), program, "-g", "-n", "1", "-c", filepath.Join(dir, "named.conf"))
	cmd.Stdout, cmd.Stderr = io.Discard, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // ended by a signal
		log.Close()
	}()
	stop := func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			text, err := os.ReadFile(n.Log)
			t.Logf("named's log (%v):\n%s", err, text)
		}
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	expired := time.After(timeout)
	client := &dns.Client{Net: "tcp"}
	for {
		answer, _, err := client.Exchange(new(dns.Msg).SetQuestion(zone, dns.TypeSOA), n.Addr)
		if err == nil && len(answer.Answer) == 1 {
			return true
		}
		select {
		case <-tick.C:
			continue
		case <-ended:
		case <-expired:
		}
		stop()
		return false
	}
}

// TXT returns the values of a name.
func (n *Named) TXT(t testing.TB, name string) (values []string) {
	t.Helper()
	client := &dns.Client{Net: "tcp"}
	answer, _, err := client.ExchangeContext(t.Context(), new(dns.Msg).SetQuestion(name, dns.TypeTXT), n.Addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, rr := range answer.Answer {
		if txt, ok := rr.(*dns.TXT); ok {
			values = append(values, strings.Join(txt.Txt, ""))
		}
	}
	return values
}
