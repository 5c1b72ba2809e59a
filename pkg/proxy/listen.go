package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
)

// listen opens all ports, before any of them is served.
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
		return "run as root, give the binary the capability (setcap cap_net_bind_service=+ep), or set another " + key
	case strings.Contains(err.Error(), "in use"):
		return "stop the program that listens there (run ss -ltnp to find it), or set another " + key
	}
	return "set another " + key
}

// HTTPAddr returns the address of the HTTP-01 listener, or config.None.
func (p *Proxy) HTTPAddr() string {
	if p.http == nil {
		return config.None
	}
	return p.http.Addr().String()
}

// HTTPSAddr returns the address of the API.
func (p *Proxy) HTTPSAddr() string { return p.https.Addr().String() }

// URL returns the API's URL for enrolment tokens and the ACME door. It is empty if
// neither public-url nor hostname is set.
func (p *Proxy) URL() string {
	g, release := p.use()
	defer release()
	return p.urlOf(g)
}

func (p *Proxy) urlOf(g *generation) string {
	if g.settings.PublicURL != "" {
		return g.settings.PublicURL
	}
	hostname := g.hostname()
	if hostname == "" {
		return ""
	}
	_, port, _ := net.SplitHostPort(p.HTTPSAddr())
	if port == "443" {
		return "https://" + hostname
	}
	return "https://" + net.JoinHostPort(hostname, port)
}

// hostname returns the canonical hostname of the current settings.
func (p *Proxy) hostname() string {
	g, release := p.use()
	defer release()
	return g.hostname()
}

// publicName returns the host of the API's URL, or an empty text.
func (g *generation) publicName() string {
	if u, err := url.Parse(g.settings.PublicURL); err == nil && u.Host != "" {
		return u.Hostname()
	}
	return g.hostname()
}

// hostname returns the canonical hostname. Validate has checked it.
func (g *generation) hostname() string {
	name, err := cert.ParseName(g.settings.Hostname)
	if err != nil {
		return ""
	}
	return name
}
