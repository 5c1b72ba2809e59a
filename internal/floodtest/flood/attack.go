package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// kinds holds the attacks by name. Each returns when it can no longer use the
// connection. It must call opened once its first round is sent.
var kinds = map[string]func(c net.Conn, opened func()) error{
	"documents": func(c net.Conn, opened func()) error { return streams(c, opened, "GET", "/openapi.json", "") },
	"health":    func(c net.Conn, opened func()) error { return streams(c, opened, "GET", "/health", "") },
	"enrolments": func(c net.Conn, opened func()) error {
		return streams(c, opened, "POST", "/v1/enroll", strings.Repeat("a", 4000))
	},
	"certificates": certificates,
	"hellos":       hellos,
	"bare":         func(c net.Conn, opened func()) error { opened(); return gone(c) },
}

// attack holds conns connections from several loopback addresses, and reopens those
// that the server closes. It prints a line once all have been opened, or after ten
// seconds. It ends when its input ends.
func attack(kind, addr string, conns, addresses int) error {
	do := kinds[kind]
	if do == nil {
		return fmt.Errorf("no such attack: %s", kind)
	}
	var sent, redials atomic.Int64
	var first sync.WaitGroup
	first.Add(conns)
	for i := range conns {
		go func() {
			once := sync.OnceFunc(first.Done)
			again := time.NewTicker(time.Second)
			from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 2, 0, byte(1+i%addresses))}}
			for {
				c, err := from.Dial("tcp4", addr)
				if err == nil {
					do(counted{c, &sent}, once)
					c.Close()
				}
				once()
				redials.Add(1)
				<-again.C
			}
		}()
	}
	all := make(chan struct{})
	go func() { first.Wait(); close(all) }()
	select {
	case <-all:
	case <-time.After(10 * time.Second): // the server may prevent some from opening
	}
	fmt.Println("all opened")
	_, err := io.Copy(io.Discard, os.Stdin)
	fmt.Printf("%d bytes sent, %d connections opened again\n", sent.Load(), redials.Load())
	return err
}

type counted struct {
	net.Conn
	sent *atomic.Int64
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	return n, err
}

// gone waits until the server closes the connection.
func gone(c net.Conn) error {
	_, err := io.Copy(io.Discard, c)
	return err
}

// streams opens as many requests as the server allows, with no window for their
// answers, and another one for each that ends.
func streams(raw net.Conn, opened func(), method, path, header string) error {
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return err
	}
	fr := http2.NewFramer(c, c)
	if err := fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		return err
	}
	next := uint32(1)
	open := func() error {
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		for _, f := range [][2]string{{":method", method}, {":scheme", "https"}, {":authority", "x"}, {":path", path}, {"content-type", "application/json"}, {"x", header}} {
			enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true})
		}
		next += 2
		return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: next - 2, BlockFragment: block.Bytes(), EndStream: method == "GET", EndHeaders: true})
	}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return err
		}
		again := 0
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if f.IsAck() {
				continue
			}
			again = 64
			if n, ok := f.Value(http2.SettingMaxConcurrentStreams); ok {
				again = int(min(n, 64))
			}
			err = fr.WriteSettingsAck()
		case *http2.PingFrame:
			err = fr.WritePing(true, f.Data)
		case *http2.RSTStreamFrame, *http2.HeadersFrame:
			if h, ok := f.(*http2.HeadersFrame); !ok || h.StreamEnded() && method == "GET" {
				again = 1
			}
		}
		for ; again > 0 && err == nil; again-- {
			err = open()
		}
		if err != nil {
			return err
		}
		if next > 1 {
			opened()
		}
	}
}

// errFull ends a handshake that has sent enough.
var errFull = errors.New("enough sent")

// stalled is a connection that sends the next left bytes and then fails.
type stalled struct {
	net.Conn
	left int
}

func (s *stalled) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b[:min(len(b), s.left)])
	if s.left -= n; err == nil && n < len(b) {
		err = errFull
	}
	return n, err
}

// certificates sends a client certificate of 260 KB of junk, except its end.
func certificates(raw net.Conn, opened func()) error {
	chain := *leaf()
	chain.Certificate = append([][]byte(nil), chain.Certificate[0], junk())
	c := tls.Client(&stalled{raw, 250_000}, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{chain}})
	if err := c.Handshake(); !errors.Is(err, errFull) {
		return err
	}
	opened()
	return gone(raw)
}

var junk = sync.OnceValue(func() []byte { return bytes.Repeat([]byte{0x30}, 260_000) })

// leaf returns a self-signed client certificate.
var leaf = sync.OnceValue(func() *tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// hellos sends a client's hello of 60 KB, except its end.
func hellos(c net.Conn, opened func()) error {
	const size = 60_000
	message := append([]byte{1, 0, size >> 8, size & 255}, make([]byte, size-100)...)
	for len(message) > 0 {
		n := min(len(message), 16_000)
		record := append([]byte{22, 3, 1, byte(n >> 8), byte(n & 255)}, message[:n]...)
		if _, err := c.Write(record); err != nil {
			return err
		}
		message = message[n:]
	}
	opened()
	return gone(c)
}
