package rest_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// A client may send 65,535 bytes of a body before it has read the proxy's
// settings (RFC 9113, section 6.9.2): the limits of memory leave room for that (X41).
func TestFirstWindow(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	token := p.Bearer(t, "web1", proxytest.Grant(clients.ModeGateway, "*.example.com"))
	c, err := tls.Dial("tcp", p.HTTPSAddr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var first bytes.Buffer
	first.WriteString(http2.ClientPreface)
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":authority", "x"}, {":path", api.PathCertificates}, {"content-type", "application/json"}, {"authorization", "Bearer " + token}} {
		enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	out := http2.NewFramer(&first, nil)
	out.WriteSettings()
	out.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	for left := 65535; left > 0; {
		n := min(left, 16<<10)
		left -= n
		out.WriteData(1, left == 0, bytes.Repeat([]byte(" "), n))
	}
	if _, err := io.Copy(c, &first); err != nil {
		t.Fatal(err)
	}
	in := http2.NewFramer(c, c)
	for {
		f, err := in.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			return // an answer, which is a refusal
		case *http2.RSTStreamFrame:
			t.Fatal(f.ErrCode)
		case *http2.GoAwayFrame:
			t.Fatal(f.ErrCode)
		}
	}
}
