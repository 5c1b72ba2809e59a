// Package rawhttp sends HTTP/1.1 requests unchanged, for tests with requests that no
// client library would send.
//
//	resp, body := rawhttp.Ask(t, addr, "GET //x/.. HTTP/1.1\r\nHost: x\r\n\r\n")
package rawhttp

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// Ask sends text over a new connection and reads one answer.
func Ask(t testing.TB, addr, text string) (*http.Response, string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatalf("%.300q: %v", text, err)
	}
	return Answer(t, conn, text)
}

// Answer reads one answer to text, which was sent over conn.
func Answer(t testing.TB, conn net.Conn, text string) (*http.Response, string) {
	t.Helper()
	method, _, _ := strings.Cut(text, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%.300q: %v", text, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%.300q: %v", text, err)
	}
	return resp, string(body)
}
