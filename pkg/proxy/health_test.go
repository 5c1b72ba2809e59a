package proxy_test

import (
	"database/sql"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// A database that cannot be written is unhealthy until it can be written again.
// Requests of strangers make the proxy write at most once in five seconds.
func TestHealthWrites(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"sqlite", "pgx"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			url := ""
			if driver == "pgx" {
				url = pgtest.Start(t).Database(t)
			}
			var clk proxytest.Clock
			p := proxytest.Start(t, proxytest.Options{Store: url, Change: clk.On()})
			if url == "" {
				url = filepath.Join(p.DataDir, "acmeproxy.db")
			}
			db, err := sql.Open(driver, url)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { db.Close() })
			run := func(statement string) {
				t.Helper()
				if _, err := db.ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			c := p.WithToken(t, "")
			want := func(status int, verdict string) {
				t.Helper()
				clk.Advance(5 * time.Second)
				r := c.Do(t, http.MethodGet, api.PathHealth, nil)
				if r.Status != status || r.Header.Get("Content-Type") != api.TypeHealth || !strings.Contains(string(r.Body), `"status":"`+verdict+`"`) {
					t.Errorf("health: %d %s %s, want %d", r.Status, r.Header.Get("Content-Type"), r.Body, status)
				}
			}
			written := func() (at int64) {
				t.Helper()
				if err := db.QueryRowContext(t.Context(), `SELECT value FROM counters WHERE name = 'probe'`).Scan(&at); err != nil {
					t.Fatal(err)
				}
				return at
			}
			want(http.StatusOK, "pass")
			clk.Advance(5 * time.Second)
			writes := map[int64]bool{}
			began := time.Now()
			for range 100 {
				c.Do(t, http.MethodGet, api.PathHealth, nil)
				writes[written()] = true
			}
			if most := 2 + int(time.Since(began)/(5*time.Second)); len(writes) > most {
				t.Errorf("100 requests wrote at %d times, want at most %d", len(writes), most)
			}
			for range 2 {
				run(`ALTER TABLE counters RENAME TO away`) // it can be read, but not written
				want(http.StatusServiceUnavailable, "fail")
				run(`ALTER TABLE away RENAME TO counters`)
				want(http.StatusOK, "pass")
			}
		})
	}
}
