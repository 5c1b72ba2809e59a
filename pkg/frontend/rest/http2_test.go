package rest_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// A client may send 65,535 bytes of a body before it has read our settings
// (RFC 9113, section 6.9.2), on one stream or on several.
func TestHTTP2InitialWindow(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{CA: pebbletest.Start(t, pebbletest.Options{})})
	for name, sizes := range map[string][]int{"one stream": {65_535}, "two streams": {40_000, 25_535}} {
		t.Run(name, func(t *testing.T) {
			c, err := tls.Dial("tcp", p.HTTPSAddr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(earlyRequests(t, sizes)); err != nil {
				t.Fatal(err)
			}
			answered := map[uint32]bool{}
			for fr := http2.NewFramer(io.Discard, c); len(answered) < len(sizes); {
				frame, err := fr.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				switch f := frame.(type) {
				case *http2.SettingsFrame:
					if size, ok := f.Value(http2.SettingInitialWindowSize); ok && size < 65_535 {
						t.Errorf("a stream's window is %d, less than a client starts with", size)
					}
				case *http2.RSTStreamFrame:
					if f.ErrCode == http2.ErrCodeFlowControl {
						t.Fatalf("stream %d: %v", f.StreamID, f.ErrCode)
					}
				case *http2.GoAwayFrame:
					t.Fatal(f.ErrCode)
				case *http2.HeadersFrame:
					answered[f.StreamID] = true
				}
			}
		})
	}
}

// earlyRequests returns what a client sends before it has read anything: requests
// with bodies of these sizes.
func earlyRequests(t *testing.T, sizes []int) []byte {
	var out, block bytes.Buffer
	out.WriteString(http2.ClientPreface)
	fr, fields := http2.NewFramer(&out, nil), hpack.NewEncoder(&block)
	err := fr.WriteSettings()
	for i, size := range sizes {
		id := uint32(2*i + 1)
		block.Reset()
		for _, f := range [][2]string{
			{":method", "POST"}, {":scheme", "https"}, {":authority", "proxy"}, {":path", "/v1/enroll"}, {"content-type", "application/json"},
		} {
			err = errors.Join(err, fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
		}
		err = errors.Join(err, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true}))
		for size > 0 {
			n := min(size, 16<<10)
			size -= n
			err = errors.Join(err, fr.WriteData(id, size == 0, bytes.Repeat([]byte(" "), n)))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
