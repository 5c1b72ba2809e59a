package client_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// configured sets the certificates of the proxy's host.
func configured(domains ...string) func(*proxy.Config) {
	return func(c *proxy.Config) { c.Domains = domains }
}

// inFolder returns the names of the certificate in a folder, or an empty string.
func inFolder(p *proxytest.Proxy, folder string) string {
	b, err := certfile.Read(filepath.Join(p.DataDir, "certs", folder))
	if err != nil {
		return ""
	}
	names, err := b.Names()
	if err != nil {
		return err.Error()
	}
	return names.Key()
}

// holds waits until a folder holds the certificate of these names.
func holds(t *testing.T, p *proxytest.Proxy, folder, names string) {
	t.Helper()
	watch.Until(t, folder+" holds "+names, func() bool { return inFolder(p, folder) == names })
}

// settled stops the proxy when nothing is pending.
func settled(t *testing.T, p *proxytest.Proxy, name string) {
	t.Helper()
	watch.Until(t, name+" is deployed", func() bool { c := p.Own(t, name); return c.Serial != "" && c.Deployment == nil })
	p.Stop(t)
}

// A name that is added to a certificate, or removed again, does not move it to another
// folder. Nor does the order of the names (X43).
func TestFolderStays(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{Change: configured("www.example.com")})
	for i, step := range []struct {
		domain string
		orders int
	}{
		{"www.example.com", 1},
		{"www.example.com,api.example.com", 2},
		{"api.example.com,www.example.com", 2},
		{"www.example.com", 2}, // the stored one is good still
		{"www.example.com,api.example.com,b.example.com", 3},
	} {
		if i > 0 {
			p.Restart(t, configured(step.domain))
		}
		names := proxytest.Names(t, strings.Split(step.domain, ",")...)
		holds(t, p, "www.example.com", names.Key())
		settled(t, p, names[0])
		if n := p.Orders(); n != step.orders {
			t.Errorf("%s: %d orders, want %d", step.domain, n, step.orders)
		}
	}
	folders, err := os.ReadDir(filepath.Join(p.DataDir, "certs"))
	if err != nil || len(folders) != 1 {
		t.Errorf("folders %v, %v", folders, err)
	}
	if strings.Contains(p.Log(), "not renewed") {
		t.Error("a file is reported as stale")
	}
}

// inDatabase uses the database of a stopped proxy. No connection stays open, which the
// next proxy would have to wait for; a last one of the earlier proxy may still close.
func inDatabase(t *testing.T, p *proxytest.Proxy, use func(*sql.DB) error) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(p.DataDir, "acmeproxy.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(use(db), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// A certificate of an older program stays in its folder, which is called after the first
// of its sorted names (X43).
func TestFolderOfOlderProgram(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{Change: configured("api.example.com,www.example.com")})
	holds(t, p, "api.example.com", "api.example.com,www.example.com")
	settled(t, p, "api.example.com")
	inDatabase(t, p, func(db *sql.DB) error {
		_, err := db.ExecContext(t.Context(), "UPDATE managed SET name = ''")
		return err
	})
	for _, domain := range []string{"www.example.com,api.example.com", "api.example.com,www.example.com"} {
		p.Restart(t, configured(domain))
		settled(t, p, "api.example.com")
	}
	var name string
	inDatabase(t, p, func(db *sql.DB) error {
		return db.QueryRowContext(t.Context(), "SELECT name FROM managed").Scan(&name)
	})
	if name != "api.example.com" {
		t.Errorf("the name is %q", name)
	}
	if inFolder(p, "www.example.com") != "" || p.Orders() != 1 {
		t.Errorf("it has moved, or was ordered again: %d orders", p.Orders())
	}
}

// The administrator may give a certificate another name. Its files appear there without
// an order, and the log says that the earlier ones are stale (X43).
func TestFolderChosen(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{Change: configured("a.example.com,b.example.com")})
	settled(t, p, "a.example.com")
	p.Restart(t, configured("lb=a.example.com,b.example.com"))
	holds(t, p, "lb", "a.example.com,b.example.com")
	settled(t, p, "a.example.com")
	if log := p.Log(); !strings.Contains(log, "the files in the earlier one are not renewed") || p.Orders() != 1 {
		t.Errorf("%d orders; log:\n%s", p.Orders(), log)
	}
}

// A set that is not configured any more is reported, with the folder whose files are not
// renewed (X43).
func TestFolderNotConfigured(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{Change: configured("a.example.com")})
	settled(t, p, "a.example.com")
	p.Restart(t, configured("b.example.com"))
	settled(t, p, "b.example.com")
	if log := p.Log(); !strings.Contains(log, "is not configured any more") || !strings.Contains(log, filepath.Join(p.DataDir, "certs", "a.example.com")) {
		t.Errorf("log:\n%s", log)
	}
}

// Two certificates never share a folder, whatever its spelling. The refusal changes
// nothing and says what to do (X43).
func TestFolderShared(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{Change: configured("a.example.com")})
	settled(t, p, "a.example.com")
	certs := filepath.Join(p.DataDir, "certs")
	for what, domains := range map[string][]string{
		"the same first name": {"a.example.com", "a.example.com,b.example.com"},
		"a chosen name":       {"a.example.com", "a.example.com=b.example.com"},
		"another case":        {"LB=b.example.com", "lb=c.example.com"},
	} {
		err := p.Refused(t, configured(domains...))
		if err == nil || !strings.Contains(err.Error(), "would share the folder "+certs) || !strings.Contains(err.Error(), "other=") {
			t.Errorf("%s: %v", what, err)
		}
	}
	p.Restart(t)
	settled(t, p, "a.example.com")
	if p.Orders() != 1 {
		t.Errorf("%d orders", p.Orders())
	}
}

// A link to another certificate's folder fails that one certificate only, even one
// of the administrator. The process starts, and continues after the link is removed (X43).
func TestFolderLinked(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{Change: configured("a.example.com")})
	settled(t, p, "a.example.com")
	link := filepath.Join(p.DataDir, "certs", "b.example.com")
	if err := os.Symlink("a.example.com", link); err != nil {
		t.Fatal(err)
	}
	p.Restart(t, configured("a.example.com", "b.example.com"))
	const problem = "b.example.com is a link to the folder of the certificate for \"a.example.com\"; remove the link"
	watch.Until(t, "b.example.com fails", func() bool { return strings.Contains(p.Own(t, "b.example.com").LastError, problem) })
	if p.Orders() != 1 || inFolder(p, "a.example.com") != "a.example.com" || !strings.Contains(p.Log(), "is a link to the folder") {
		t.Errorf("%d orders, %s; log:\n%s", p.Orders(), inFolder(p, "a.example.com"), p.Log())
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	p.Restart(t)
	holds(t, p, "b.example.com", "b.example.com")
	settled(t, p, "b.example.com")

	// Its files are lost, and the link is there again.
	if err := errors.Join(os.RemoveAll(link), os.Symlink("a.example.com", link)); err != nil {
		t.Fatal(err)
	}
	p.Restart(t)
	watch.Until(t, "the deployment fails", func() bool { return strings.Contains(p.Own(t, "b.example.com").HookError, problem) })
	if inFolder(p, "a.example.com") != "a.example.com" {
		t.Error("its files are in the other folder")
	}
}
