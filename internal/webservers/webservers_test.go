// Package webservers tests that acmeproxy works behind the web servers that
// people have, with the very configuration files of docs/web-servers.
package webservers

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/rawhttp"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// server is a web server and how a test runs it.
type server struct {
	program string
	file    string // of docs/web-servers
	// ports are replacements that every one must find: %d is the port of the
	// web server.
	ports [][2]string
	// command writes what else the program needs into dir and returns how it is
	// started in the foreground; file is the one above with its ports.
	command func(t *testing.T, dir, file string, port int) []string
}

func servers() map[string]server {
	return map[string]server{
		"nginx": {"nginx", "nginx.conf", [][2]string{
			{"listen 80 default_server;", "listen 127.0.0.1:%d default_server;"},
			{"listen [::]:80 default_server;", ""},
		}, nginx},
		"apache":  {"apache2", "apache.conf", [][2]string{{"<VirtualHost *:80>", "<VirtualHost 127.0.0.1:%d>"}}, apache},
		"haproxy": {"haproxy", "haproxy.conf", [][2]string{{"bind :80", "bind 127.0.0.1:%d"}}, haproxy},
		"caddy":   {"caddy", "caddy.conf", [][2]string{{"http:// {", "http://:%d {\n\tbind 127.0.0.1"}}, caddy},
	}
}

func nginx(t *testing.T, dir, file string, _ int) []string {
	var temp strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temp, "%s_temp_path %s/%s;\n", kind, dir, kind)
	}
	config := write(t, dir, "main.conf", fmt.Sprintf("daemon off;\nmaster_process off;\npid %s/pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n%sinclude %s;\n}\n", dir, &temp, file))
	return []string{"-p", dir, "-e", "stderr", "-c", config}
}

func apache(t *testing.T, dir, file string, port int) []string {
	const modules = "/usr/lib/apache2/modules"
	var config strings.Builder
	fmt.Fprintf(&config, "ServerRoot %s\nDefaultRuntimeDir %s\nPidFile %s/pid\nErrorLog /dev/stderr\nServerName localhost\nListen 127.0.0.1:%d\n", dir, dir, dir, port)
	for _, module := range []string{"mpm_event", "authz_core", "proxy", "proxy_http", "rewrite"} {
		fmt.Fprintf(&config, "LoadModule %s_module %s/mod_%s.so\n", module, modules, module)
	}
	if os.Geteuid() == 0 {
		config.WriteString("User www-data\nGroup www-data\n")
	}
	fmt.Fprintf(&config, "Include %s\n", file)
	return []string{"-D", "FOREGROUND", "-f", write(t, dir, "main.conf", config.String())}
}

func haproxy(_ *testing.T, _, file string, _ int) []string { return []string{"-db", "-f", file} }

func caddy(t *testing.T, dir, file string, _ int) []string {
	site, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	config := write(t, dir, "Caddyfile", "{\n\tadmin off\n}\n"+string(site))
	return []string{"run", "--adapter", "caddyfile", "--config", config}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// start runs a web server on port in front of acmeproxy's backend until the
// test ends.
func (s server) start(t *testing.T, port, backend int) {
	t.Helper()
	path := pebbletest.Tool(t, s.program)
	dir := t.TempDir()
	text, err := os.ReadFile(filepath.Join("../../docs/web-servers", s.file))
	if err != nil {
		t.Fatal(err)
	}
	config := string(text)
	for _, r := range append(s.ports, [2]string{"127.0.0.1:8080", fmt.Sprintf("127.0.0.1:%d", backend)}) {
		if !strings.Contains(config, r[0]) {
			t.Fatalf("%s does not have %q", s.file, r[0])
		}
		config = strings.ReplaceAll(config, r[0], strings.ReplaceAll(r[1], "%d", fmt.Sprint(port)))
	}
	args := s.command(t, dir, write(t, dir, "site.conf", config), port)
	cmd := exec.Command(path, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "XDG_DATA_HOME=" + dir}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }()
	stop := sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have exited already
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
	})
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("%s:\n%s", s.program, &out)
		}
	})
	watch.Until(t, s.program+" listens", func() bool {
		select {
		case <-done:
			t.Fatalf("%s has ended:\n%s", s.program, &out)
		default:
		}
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := pebbletest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// A certificate can be had through each web server, with the configuration
// that docs/web-servers.md shows.
func TestIssuance(t *testing.T) {
	t.Parallel()
	for name, s := range servers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			front, back := freePort(t), freePort(t)
			s.start(t, front, back)
			p := proxytest.Start(t, proxytest.Options{
				Pebble: pebbletest.Options{HTTPPort: front},
				Change: func(c *proxy.Config) { c.HTTPAddr = fmt.Sprintf("127.0.0.1:%d", back) },
			})
			getter, err := p.Enroll(t, "web1", proxytest.Grant("agent", "*.example.com")).Getter(nil)
			if err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(t.TempDir(), "out")
			names := cert.Names{"a.example.com", "b.example.com"}
			if _, err := getter.Get(t.Context(), remote.Wanted{Names: names, Mode: "agent", KeyType: cert.EC256, Out: out}); err != nil {
				t.Fatal(err)
			}
			b, err := certfile.Read(out)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := b.Names(); err != nil || !got.Equal(names) {
				t.Errorf("the certificate is for %s, %v", got, err)
			}
		})
	}
}

// Host arrives as it was sent, forwarded hosts do not count, unknown tokens are
// acmeproxy's 404, and everything else is the web server's (A2, A3, A4).
func TestForwarding(t *testing.T) {
	t.Parallel()
	const token, keyAuth = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA", "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.x"
	for name, s := range servers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			front, back := freePort(t), freePort(t)
			r := responder.New()
			r.Put("web1.example.com", token, keyAuth)
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", back))
			if err != nil {
				t.Fatal(err)
			}
			acmeproxy := &http.Server{Handler: r}
			go func() { _ = acmeproxy.Serve(l) }()
			t.Cleanup(func() { acmeproxy.Close() })
			s.start(t, front, back)
			for _, test := range []struct {
				path, host string
				status     int
				want       string // of the body, or Location
			}{
				{responder.Prefix + token, "web1.example.com", 200, keyAuth},
				{responder.Prefix + token, "WEB1.example.com", 200, keyAuth},
				{responder.Prefix + token, fmt.Sprintf("web1.example.com:%d", front), 200, keyAuth},
				{responder.Prefix + token, "web1.example.com\r\nX-Forwarded-Host: other.example.com\r\nForwarded: host=other.example.com", 200, keyAuth},
				{responder.Prefix + token, "other.example.com\r\nX-Forwarded-Host: web1.example.com\r\nForwarded: host=web1.example.com\r\nX-Host: web1.example.com", 404, "not found\n"},
				{responder.Prefix + token, "127.0.0.1", 404, "not found\n"},
				{responder.Prefix + "unknown", "web1.example.com", 404, "not found\n"},
				{"/a?b=c", "web1.example.com", 301, "https://web1.example.com/a?b=c"},
				{"/.well-known/security.txt", "web1.example.com", 301, "https://web1.example.com/.well-known/security.txt"},
			} {
				resp, body := rawhttp.Ask(t, fmt.Sprintf("127.0.0.1:%d", front), "GET "+test.path+" HTTP/1.1\r\nHost: "+test.host+"\r\nConnection: close\r\n\r\n")
				got := body
				if test.status == 301 {
					got = resp.Header.Get("Location")
				}
				if resp.StatusCode != test.status || got != test.want {
					t.Errorf("%s of %q: %d %q, want %d %q", test.path, test.host, resp.StatusCode, got, test.status, test.want)
				}
			}
		})
	}
}
