package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/internal/dnstest"
	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
)

// insideVariable is set in the process of TestReadme that has a network of its own.
const insideVariable = "ACMED_TEST_INSIDE"

// The commands of README.md work, word for word, on a host with a network of its own: it
// has only the addresses and the DNS server that the page names (C20, C22).
func TestReadme(t *testing.T) {
	if os.Getenv(insideVariable) != "" {
		runReadme(t)
		return
	}
	for _, program := range []string{"certbot", "caddy", "curl", "openssl", "ip", "bash", "unshare"} {
		pebbletest.Tool(t, program)
	}
	args := []string{"--net"}
	if os.Geteuid() != 0 {
		args = append(args, "--map-root-user")
	}
	if out, err := exec.CommandContext(t.Context(), "unshare", append(args, "true")...).CombinedOutput(); err != nil {
		if pebbletest.ToolsRequired() {
			t.Fatalf("unshare: %v: %s", err, out)
		}
		t.Skipf("SKIP: this user cannot create a network namespace: %s", out)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", append(args, os.Args[0], "-test.run=^TestReadme$", "-test.v")...)
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// runReadme runs all commands of README.md as one script.
func runReadme(t *testing.T) {
	t.Helper()
	for _, args := range []string{"link set lo up", "address add 10.0.0.10/32 dev lo", "address add 10.0.0.53/32 dev lo"} {
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	packets, err := net.ListenPacket("udp", "10.0.0.53:53")
	if err != nil {
		t.Fatal(err)
	}
	dnstest.Serve(t, &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(answer)})

	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	script := []byte("set -euxo pipefail\n")
	blocks := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllSubmatch(page, -1)
	if len(blocks) < 5 {
		t.Fatalf("README.md has %d blocks of commands", len(blocks))
	}
	for _, block := range blocks {
		script = append(script, block[1]...)
	}
	home := t.TempDir()
	file := filepath.Join(home, "readme.sh")
	if err := os.WriteFile(file, script, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithDeadline(t.Context(), watch.Deadline(t))
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", file)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home)
	cmd.Env = append(cmd.Env, goSettings(t)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // with acmed and Caddy
	log, err := os.Create(filepath.Join(home, "log"))                                    // a pipe would stay open with them
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	err = cmd.Run()
	_ = cmd.Cancel() // they may be gone
	out, readErr := os.ReadFile(log.Name())
	if err != nil || readErr != nil {
		t.Fatalf("README.md: %v, %v\n%s", err, readErr, out)
	}
	if !bytes.Contains(out, []byte("hello from Caddy")) {
		t.Errorf("Caddy did not answer:\n%s", out)
	}
	t.Logf("%s", out)
}

// goSettings returns where the commands find what is built and downloaded already.
func goSettings(t *testing.T) (env []string) {
	t.Helper()
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
		value, err := exec.CommandContext(context.Background(), "go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}
	return env
}

// answer is the DNS server of the private network.
func answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	switch question := q.Question[0]; {
	case !dns.IsSubDomain("example.com.", question.Name):
		m.Rcode = dns.RcodeNameError
	case question.Qtype == dns.TypeA:
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1},
			A:   net.IPv4(10, 0, 0, 10),
		})
	}
	_ = w.WriteMsg(m) // the client may be gone
}
