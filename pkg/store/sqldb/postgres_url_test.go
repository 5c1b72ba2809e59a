package sqldb

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/acmeproxy/acmeproxy/pkg/store/dsn"
)

// To another host the connection is encrypted and the certificate checked,
// unless the operator says otherwise; nothing waits for ever.
func TestPostgresConfig(t *testing.T) {
	for _, name := range []string{"PGHOST", "PGSSLMODE", "PGSERVICE", "PGCONNECT_TIMEOUT", "PGSSLROOTCERT"} {
		t.Setenv(name, "")
	}
	for url, verified := range map[string]bool{
		"postgres://u@db.example.com/x":                     true,
		"postgres://u@db.example.com/x?connect_timeout=9":   true,
		"postgres://u@127.0.0.1,192.0.2.1/x":                true,
		"postgres:///x?host=db.example.com":                 true,
		"postgres://u@db.example.com/x?sslmode=require":     false,
		"postgres://u@db.example.com/x?sslmode=disable":     false,
		"postgres://u@localhost/x":                          false,
		"postgres:///x?host=/run/postgresql":                false,
		"postgres:///x":                                     false,
		"postgres://u@db.example.com/x?statement_timeout=7": true,
	} {
		cfg := config(t, url)
		tls := cfg.TLSConfig
		got := tls != nil && !tls.InsecureSkipVerify && tls.ServerName != ""
		for _, f := range cfg.Fallbacks {
			got = got && f.TLSConfig != nil && !f.TLSConfig.InsecureSkipVerify
		}
		if got != verified {
			t.Errorf("%s: the certificate is checked: %t, want %t", url, got, verified)
		}
		want := 5 * time.Second
		if strings.Contains(url, "connect_timeout") {
			want = 9 * time.Second
		}
		if cfg.ConnectTimeout != want {
			t.Errorf("%s: connect timeout %s, want %s", url, cfg.ConnectTimeout, want)
		}
		limit := "30s"
		if strings.Contains(url, "statement_timeout") {
			limit = "7"
		}
		if got := cfg.RuntimeParams["statement_timeout"]; got != limit {
			t.Errorf("%s: statement timeout %s, want %s", url, got, limit)
		}
	}
	t.Setenv("PGSSLMODE", "require")
	if cfg := config(t, "postgres://u@db.example.com/x"); cfg.TLSConfig == nil || !cfg.TLSConfig.InsecureSkipVerify {
		t.Error("PGSSLMODE does not count")
	}
}

func config(t *testing.T, url string) *pgx.ConnConfig {
	t.Helper()
	u, err := dsn.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := postgresConfig(url, u)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestSuits(t *testing.T) {
	for version, ok := range map[string]bool{
		"9.6.24": false, "11.22 (Debian 11.22-1)": false, "12.0": true, "15.18 (Debian 15.18-0+deb12u1)": true, "19beta1": true,
	} {
		if err := checkServer(version, "UTF8"); (err == nil) != ok {
			t.Errorf("%s: %v", version, err)
		}
	}
	if err := checkServer("15.1", "SQL_ASCII"); err == nil {
		t.Error("a database without an encoding will do")
	}
}
