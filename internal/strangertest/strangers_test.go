//go:build unix

package strangertest_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// askAgain sends one authenticated request over a persistent connection.
func askAgain(t *testing.T, conn net.Conn, in *bufio.Reader, token string) error {
	if err := conn.SetDeadline(watch.Deadline(t)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", api.PathClient, token); err != nil {
		return err
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// Strangers at nine addresses open more silent connections than a port's limit. They
// displace no idle connection of an authenticated client or a visitor of port 80
// (A7, X41).
func TestEviction(t *testing.T) {
	const most, bare = 1024, 1024 + 82
	p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) {
		c.Limits = proxy.Limits{Connections: most, Port80Header: time.Hour, APIHeader: time.Hour}
	}})
	token := p.Bearer(t, "web1", proxytest.Grant(clients.ModeGateway, "*.example.com"))
	conn, err := tls.Dial("tcp", p.HTTPSAddr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	visitor, err := net.Dial("tcp", p.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer visitor.Close()
	visit := func() {
		t.Helper()
		if _, err := io.WriteString(visitor, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if n, err := visitor.Read(make([]byte, 4096)); err != nil || n == 0 {
			t.Errorf("port 80: %v", err)
		}
	}
	visit()
	for round := range 2 {
		if err := askAgain(t, conn, in, token); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if round == 0 {
			idle(t, p.HTTPSAddr(), bare, 9)
			idle(t, p.HTTPAddr(), bare, 9)
		}
	}
	visit()
}

// A client's handshake may have 16 KiB and a chain of eight certificates (A3).
func TestHandshakeLimits(t *testing.T) {
	p := proxytest.Start(t, proxytest.Options{})
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	one, err := cert.SelfSigned(key, "web1")
	if err != nil {
		t.Fatal(err)
	}
	chain := func(n int) tls.Certificate {
		c := *one
		c.Certificate = slices.Repeat(one.Certificate, n)
		return c
	}
	junk := *one
	junk.Certificate = append(junk.Certificate[:1:1], make([]byte, 200_000))
	for name, test := range map[string]struct {
		key  tls.Certificate
		fits bool
	}{"one": {*one, true}, "three": {chain(3), true}, "eight": {chain(8), true}, "nine": {chain(9), false}, "junk": {junk, false}} {
		conn, err := tls.Dial("tcp", p.HTTPSAddr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{test.key}})
		answer := ""
		if err == nil {
			defer conn.Close()
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", api.PathHealth)
			var body []byte
			body, err = io.ReadAll(conn)
			answer = string(body)
		}
		if strings.HasPrefix(answer, "HTTP/1.1 200") != test.fits {
			t.Errorf("%s: %q, %v", name, answer, err)
		}
	}
	// The limit applies to other messages, such as a hello of 60 KB.
	conn, err := net.Dial("tcp", p.HTTPSAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(watch.Deadline(t)); err != nil {
		t.Fatal(err)
	}
	record := append([]byte{22, 3, 1, 15000 >> 8, 15000 & 255, 1, 0, 60000 >> 8, 60000 & 255}, make([]byte, 15000-4)...)
	sent, err := 0, error(nil)
	for err == nil && sent < 45000 {
		var n int
		n, err = conn.Write(record)
		sent += n
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after a hello of %d bytes: %v", sent, err)
	}
}

// Strangers do not see the version of the proxy (A12).
func TestBuildIsNotShown(t *testing.T) {
	const build = "9.8.7-needle"
	p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) { c.Version = build }})
	for _, path := range []string{api.PathOpenAPI, api.PathHealth, api.PathClient, "/version", "/nothing"} {
		for _, secure := range []bool{false, true} {
			if answer := p.Raw(t, secure, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); answer == "" || strings.Contains(answer, build) || strings.Contains(answer, "Server:") {
				t.Errorf("%s: %.300q", path, answer)
			}
		}
	}
}
