package client_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// refuse makes the CA refuse orders with a name.
func refuse(ca *pebbletest.Fault, name string) {
	ca.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if pebbletest.Kind(r) == pebbletest.NewOrder {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			var jws struct{ Payload string }
			_ = json.Unmarshal(body, &jws)
			if order, _ := base64.RawURLEncoding.DecodeString(jws.Payload); bytes.Contains(order, []byte(`"`+name+`"`)) {
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(http.StatusBadRequest)
				io.WriteString(w, `{"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "no"}`)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// hosts returns the certificate of the proxy's host for exactly these names.
func hosts(t *testing.T, p *proxytest.Proxy, names ...string) admin.Certificate {
	t.Helper()
	all, err := p.Admin.Certificates(t.Context(), admin.CertificateQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if cert.Names(c.Names).Equal(proxytest.Names(t, names...)) {
			return c
		}
	}
	return admin.Certificate{}
}

// While the certificate of a changed set fails, the former one is renewed in the same
// folder, over changes, restarts and a return. It ends with the first certificate of
// the new set (X43).
func TestFormerSet(t *testing.T) {
	t.Parallel()
	const www, api, third = "www.example.com", "api.example.com", "third.example.com"
	var ca pebbletest.Fault
	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.Wrap}, Change: clk.On(configured(www))})
	settled(t, p, www)
	serial := func() string {
		b, err := certfile.Read(filepath.Join(p.DataDir, "certs", www))
		if err != nil {
			return ""
		}
		return b.Serial()
	}
	renewed := func(what string) {
		t.Helper()
		before := serial()
		if c := hosts(t, p, www); c.NotConfigured || c.NextAttempt.IsZero() {
			t.Fatalf("%s: the former certificate is %+v", what, c)
		}
		clk.Advance(hosts(t, p, www).NextAttempt.Sub(clk.Now()) + time.Second)
		p.Tick(t)
		watch.Until(t, what+": the former certificate is renewed", func() bool { return serial() != before && inFolder(p, www) == www })
	}
	refuse(&ca, api)
	p.Restart(t, configured(www+","+api))
	watch.Until(t, "the new set fails", func() bool { return hosts(t, p, www, api).LastError != "" })
	renewed("a changed set")
	p.Restart(t)
	renewed("a restart")
	p.Restart(t, configured(www+","+api+","+third))
	watch.Until(t, "the third set fails", func() bool { return hosts(t, p, www, api, third).LastError != "" })
	renewed("another change")
	if c := hosts(t, p, www, api); !c.NextAttempt.IsZero() {
		t.Errorf("a set without a certificate that is not configured any more is tried: %+v", c)
	}
	p.Restart(t, configured(www))
	renewed("a return")
	p.Restart(t, configured(www+","+api))
	ca.PassAll()
	p.TryNow(t.Context())
	holds(t, p, www, api+","+www)
	watch.Until(t, "the former set ends", func() bool { return hosts(t, p, www).NextAttempt.IsZero() })
	watch.Until(t, "nothing is pending", func() bool { c := hosts(t, p, www, api); return c.Serial != "" && c.Deployment == nil })
	p.Restart(t)
	if c := hosts(t, p, www); !c.NotConfigured || !c.NextAttempt.IsZero() || inFolder(p, www) != api+","+www {
		t.Errorf("after a restart: %+v, %s", c, inFolder(p, www))
	}
	if strings.Contains(p.Log(), "its files are not renewed") {
		t.Error("files are reported as stale")
	}
}

// If the files are lost while a changed set fails, the former certificate is deployed
// again, without an order (X43).
func TestFormerSetRestored(t *testing.T) {
	t.Parallel()
	const www, api = "www.example.com", "api.example.com"
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.Wrap}, Change: configured(www)})
	settled(t, p, www)
	dir := filepath.Join(p.DataDir, "certs", www)
	before := proxytest.OnDisk(t, dir).Serial()
	refuse(&ca, api)
	p.Restart(t, configured(www+","+api))
	watch.Until(t, "the new set fails", func() bool { return hosts(t, p, www, api).LastError != "" })
	for what, remove := range map[string]func(string) error{
		"a part of the files": func(dir string) error { return os.Remove(filepath.Join(dir, certfile.Fullchain)) },
		"all files":           os.RemoveAll,
	} {
		p.Stop(t) // so that it writes nothing there meanwhile
		if err := remove(dir); err != nil {
			t.Fatal(err)
		}
		p.Restart(t)
		holds(t, p, www, www)
		if serial := proxytest.OnDisk(t, dir).Serial(); serial != before {
			t.Errorf("without %s: serial %s, want %s", what, serial, before)
		}
	}
	if c := hosts(t, p, www); c.NotConfigured || c.NextAttempt.IsZero() {
		t.Errorf("the former certificate is %+v", c)
	}
	ca.PassAll()
	p.TryNow(t.Context())
	holds(t, p, www, api+","+www)
	watch.Until(t, "the former set ends", func() bool { return hosts(t, p, www).NextAttempt.IsZero() })
	p.Stop(t)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	p.Restart(t)
	holds(t, p, www, api+","+www)
	if c := hosts(t, p, www); !c.NotConfigured || !c.NextAttempt.IsZero() {
		t.Errorf("the former certificate is back: %+v", c)
	}
}
