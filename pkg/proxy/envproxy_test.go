package proxy_test

import (
	"os"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// An invalid proxy variable stops serve and remote before they write or send
// anything. The error does not show its password.
func TestMalformedProxySetting(t *testing.T) {
	p := proxytest.Start(t, proxytest.Options{})
	enrolled := p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "a.example.com"))
	token := p.AddClient(t, "web2", proxytest.Grant(clients.ModeAgent, "b.example.com"))
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "http://user:needle@proxy.example.com:port")
			_, apiErr := enrolled.API()
			dir := t.TempDir()
			_, enrollErr := remote.Enroll(t.Context(), dir, "test", token, remote.EnrollOptions{Environment: remote.Environment{Getenv: os.Getenv}})
			cfg := proxy.Config{Serve: config.DefaultServe(), Getenv: os.Getenv}
			cfg.DataDir = dir
			_, serveErr := proxy.New(t.Context(), cfg)
			for what, err := range map[string]error{"remote": apiErr, "enroll": enrollErr, "serve": serveErr} {
				if err == nil || !strings.HasPrefix(err.Error(), name+": ") || strings.Contains(err.Error(), "needle") {
					t.Errorf("%s: %v", what, err)
				}
			}
			if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
				t.Errorf("written: %v, %v", files, err)
			}
		})
	}
}

// Variables that do not affect connections to the CA and the proxy are ignored.
func TestProxySettingsOfOthers(t *testing.T) {
	p := proxytest.Start(t, proxytest.Options{})
	enrolled := p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "a.example.com"))
	t.Setenv("HTTP_PROXY", "http://proxy.example.com:port")
	t.Setenv("NO_PROXY", "/var/run/docker.sock,localhost 127.0.0.1")
	if _, err := enrolled.API(); err != nil {
		t.Error(err)
	}
	cfg := proxy.Config{Serve: config.DefaultServe(), Getenv: os.Getenv}
	cfg.DataDir, cfg.HTTPAddr, cfg.HTTPSAddr = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	second, err := proxy.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}
