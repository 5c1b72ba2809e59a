package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/localca"
)

// getCertificate is a function for tls.Config.
type getCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// serve serves requests until ctx ends, and lets those in progress finish.
func serve(ctx context.Context, scheme, addr string, h http.Handler, get getCertificate, logger *slog.Logger) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s := &http.Server{
		Handler: h, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, MaxHeaderBytes: 32 << 10,
		TLSConfig: &tls.Config{GetCertificate: get, MinVersion: tls.VersionTLS12},
	}
	logger.Info("serving", "url", scheme+"://"+l.Addr().String())
	served := make(chan error, 1)
	go func() {
		if scheme == "https" {
			served <- s.ServeTLS(l, "", "")
		} else {
			served <- s.Serve(l)
		}
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", scheme, err)
	case <-ctx.Done():
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ending); !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return s.Close()
	}
}

// baseURL returns the URL of an address to listen on, under the host's name.
func baseURL(scheme, host, addr string) string {
	_, port, _ := net.SplitHostPort(addr) // serve reports a fault
	return scheme + "://" + net.JoinHostPort(host, port)
}

// writeRoots writes the roots that clients must trust. A reader sees the old file or the
// new one.
func writeRoots(path string, ca *localca.CA, logger *slog.Logger) error {
	if err := os.WriteFile(path+".new", ca.Roots(), 0o644); err != nil {
		return err
	}
	logger.Info("clients must trust the CA", "file", path)
	return os.Rename(path+".new", path)
}

// rotate rotates the CA after each SIGHUP, until ctx ends.
func rotate(ctx context.Context, ca *localca.CA, path string, logger *slog.Logger) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			if err := errors.Join(ca.Rotate(ctx), writeRoots(path, ca, logger)); err != nil {
				logger.Error("the CA cannot be rotated", "error", err)
			}
		}
	}
}
