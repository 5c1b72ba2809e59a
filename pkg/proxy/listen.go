package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
)

// listen opens all ports before anything is served.
func (p *Proxy) listen(context.Context) (err error) {
	if p.cfg.HTTPAddr != config.None {
		if p.http, err = p.listenTCP("http-addr", p.cfg.HTTPAddr); err != nil {
			return err
		}
	}
	if p.https, err = p.listenTCP("https-addr", p.cfg.HTTPSAddr); err != nil {
		return err
	}
	if p.admin, err = admin.Listen(filepath.Join(p.cfg.DataDir, admin.SocketName)); err != nil {
		return err
	}
	p.onClose(p.admin.Close)
	return nil
}

func (p *Proxy) listenTCP(key, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err == nil {
		p.onClose(l.Close)
		return l, nil
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return nil, fmt.Errorf("%s: cannot listen on %s: %w; %s", key, addr, err, listenRemedy(key, err))
}

func listenRemedy(key string, err error) string {
	switch {
	case errors.Is(err, os.ErrPermission):
		return "run as root, give the binary the capability (setcap cap_net_bind_service=+ep), or name another port with --" + key
	case strings.Contains(err.Error(), "in use"):
		return "stop what listens there (ss -ltnp shows it), or name another address with --" + key
	}
	return "name another address with --" + key
}

// HTTPAddr is where port 80's answers are served; config.None if they are not.
func (p *Proxy) HTTPAddr() string {
	if p.http == nil {
		return config.None
	}
	return p.http.Addr().String()
}

// HTTPSAddr is where the API is served.
func (p *Proxy) HTTPSAddr() string { return p.https.Addr().String() }

// URL is the API's address for enrolment tokens; empty if --hostname is not set.
func (p *Proxy) URL() string {
	if p.cfg.Hostname == "" {
		return ""
	}
	_, port, _ := net.SplitHostPort(p.HTTPSAddr())
	if port == "443" {
		return "https://" + p.hostname()
	}
	return "https://" + net.JoinHostPort(p.hostname(), port)
}

// hostname is canonical; Validate has seen to it that it can be.
func (p *Proxy) hostname() string {
	name, err := cert.ParseName(p.cfg.Hostname)
	if err != nil {
		return ""
	}
	return name
}
