package dsn_test

import (
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/store/dsn"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]struct {
		shown         string
		secret, local bool
	}{
		"postgres://":       {"postgres:///", false, false},
		"postgres://db":     {"postgres://db/", false, false},
		"postgresql://db/x": {"postgresql://db/x", false, false},
		"postgres://u:s3cret@db.example.com:5433/x":        {"postgres://u@db.example.com:5433/x", true, false},
		"postgres://u:s%40cr%2Fet@db/x?sslmode=require":    {"postgres://u@db/x", true, false},
		"postgres://u@localhost/x":                         {"postgres://u@localhost/x", false, true},
		"postgres://u@127.0.0.1:5432,[::1]/x":              {"postgres://u@127.0.0.1:5432,[::1]/x", false, true},
		"postgres://u@127.0.0.1,db2:5433/x":                {"postgres://u@127.0.0.1,db2:5433/x", false, false},
		"postgres:///x?host=/run/postgresql&user=u":        {"postgres:///x?host=/run/postgresql", false, true},
		"postgres://u@db/x?password=s3cret":                {"postgres://u@db/x", true, false},
		"postgres://u@db/x?sslpassword=s3cret&sslkey=/a/b": {"postgres://u@db/x", true, false},
	} {
		u, err := dsn.Parse(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := u.String(); got != want.shown || u.Secret != want.secret || u.Local() != want.local {
			t.Errorf("%s is shown as %s, secret %t, local %t; want %+v", in, got, u.Secret, u.Local(), want)
		}
	}
}

// A password that is not escaped moves into other parts of the URL; neither an
// error nor the display form may show it.
func TestBadURLsKeepTheirSecret(t *testing.T) {
	for _, in := range []string{
		"", "/var/lib/acmeproxy.db", "mysql://u:s3cret@db/x", "POSTGRES://u:s3cret@db/x",
		"postgres://u:s3c/ret@db/x", "postgres://u:s3c?ret@db/x", "postgres://u:s3c#ret@db/x", "postgres://u:s3c@ret@db/x",
		"postgres://u:s3c:ret@db/x", "postgres://u:s3cret%@db/x", "postgres://u:s3cret%00@db/x",
		"postgres://u:s3cret/db", "postgres://s3cret:x/db", "postgres://db:0/x", "postgres://db:65536/x",
		"postgres://[::1/x", "postgres://[s3cret]/x", "postgres://[::1]s3cret/x", "postgres://d%62/x",
		"postgres://u@db/x/s3cret", "postgres://u@db/x:s3cret", "postgres://u@db/x?password=s3;cret", "postgres://u@db/x?a=%zz",
		"postgres://u@db/x?a=1&a=2", "postgres://u@db/%zz",
	} {
		u, err := dsn.Parse(in)
		if err == nil {
			t.Errorf("%s was read as %s", in, u)
			continue
		}
		if strings.Contains(err.Error(), "s3c") || strings.Contains(err.Error(), "ret@") || !strings.Contains(err.Error(), "write") {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestMask(t *testing.T) {
	for in, want := range map[string]string{
		"no URL at all: a@b": "no URL at all: a@b",
		`serve takes no argument, but got "postgres://u:s3c@r:et@db/x?a=b"`: `serve takes no argument, but got "postgres://…@db/x?a=b"`,
		"postgres://db/x?password=s3cret&sslPassword=s3cret x":              "postgres://db/x?password=…&sslPassword=… x",
		"postgres://db/x": "postgres://db/x",
	} {
		if got := dsn.Mask(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("postgres://u:", "s3cret", "@db:5432/x?sslmode=require")
	f.Add("postgres://u:a@b/", "s3cret", "@db,db2/x")
	f.Add("postgres://db/x?password=", "s3cret", "&host=/run")
	f.Fuzz(func(t *testing.T, before, secret, after string) {
		_, _ = dsn.Parse(before + secret + after)
		// Where a password is, it is not shown.
		const mark = "MARK5ECRET"
		for _, in := range []string{"postgres://u:" + mark + "@" + after, "postgres://h/d?" + after + "&password=" + mark} {
			u, err := dsn.Parse(in)
			if err != nil && strings.Contains(err.Error(), mark) || err == nil && strings.Contains(u.String(), mark) {
				t.Errorf("%q: %s, %v", in, u, err)
			}
		}
	})
}
