package sqlstore_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/pressly/goose/v3"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/sqlstore"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// first holds rows as the first version of the schema has them, with the JSON and the
// chains that the first program wrote.
var first = []struct {
	table string
	row   string // JSON
	blobs map[string]string
}{
	{"acme_secrets", `{"name": "nonce"}`, map[string]string{"value": "secret"}},
	{"acme_nonces", `{"expires_at": 4102444800000, "id": "used"}`, nil},
	{
		"acme_accounts", `{"id": "a", "thumbprint": "t", "status": "valid", "contacts": "[\"mailto:a@example.com\"]", "terms": "https://ca.example/terms",
			"owner": "w", "kid": "kid", "created_at": 1, "version": 3}`, map[string]string{"key": "jwk", "binding": "jws"},
	},
	{
		"acme_orders", `{"id": "o", "account_id": "a", "owner": "w", "status": "processing",
			"identifiers": "[{\"type\":\"dns\",\"value\":\"*.a.example\"}]",
			"authorizations": "[{\"identifier\":{\"type\":\"dns\",\"value\":\"a.example\"},\"wildcard\":true,\"status\":\"valid\",\"challenges\":[{\"type\":\"dns-01\",\"token\":\"t\",\"status\":\"valid\",\"validated\":\"2026-03-01T12:00:00Z\",\"addr\":\"192.0.2.1\",\"attempts\":2}]}]",
			"authorized": "[\"*.a.example\"]", "profile": "short", "not_before": 2, "not_after": 3, "replaces": "",
			"error": "{\"type\":\"urn:ietf:params:acme:error:dns\",\"detail\":\"d\"}", "created_at": 4, "expires_at": 4102444800000,
			"certificate_id": "", "share": "s", "key_hash": "k", "issuing": true, "due_at": 5, "failures": 1, "lease_owner": "i", "lease_until": 6,
			"version": 7}`, map[string]string{"csr": "csr", "state": "state"},
	},
	{"acme_authorized", `{"account_id": "a", "identifier": "*.a.example", "expires_at": 4102444800000, "order_id": "o"}`, nil},
	{
		"acme_certificates", `{"id": "c", "order_id": "p", "account_id": "a", "owner": "w", "share": "s", "fingerprint": "f", "key_hash": "k",
			"ari_id": "r", "identifiers": "[\"a.example\"]", "not_before": 1, "not_after": 4102444800000, "collected": false, "replaced_by": "q",
			"revoked_at": 0, "reason": 0, "created_at": 2}`, map[string]string{"chains": "\x05first\x06second", "state": "state"},
	},
}

// A database that the first program wrote is read by this one.
func TestUpgrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acmed.db")
	for name, c := range map[string]struct {
		driver, dsn string
		dialect     goose.Dialect
		at          sqldb.Config
	}{
		"SQLite":     {"sqlite", "file:" + path, goose.DialectSQLite3, sqldb.Config{Path: path}},
		"PostgreSQL": {"pgx", "", goose.DialectPostgres, sqldb.Config{}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.dsn == "" {
				c.dsn = pgtest.Start(t).Database(t)
				c.at.URL = c.dsn
			}
			writeFirst(t, c.driver, c.dsn, c.dialect)
			db := open(t, c.at)
			defer closing(t, db)
			checkFirst(t, sqlstore.New(db))
		})
	}
}

// writeFirst creates the first version of the schema with its rows.
func writeFirst(t *testing.T, driver, dsn string, dialect goose.Dialect) {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	part := sqlstore.Part()
	p, err := goose.NewProvider(dialect, db, part.Migrations, goose.WithDisableGlobalRegistry(true), goose.WithTableName("acme_version"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for _, r := range first {
		var columns map[string]any
		if err := json.Unmarshal([]byte(r.row), &columns); err != nil {
			t.Fatal(err)
		}
		for column, blob := range r.blobs {
			columns[column] = []byte(blob)
		}
		var names, places []string
		var args []any
		for column, v := range columns {
			if f, ok := v.(float64); ok {
				v = int64(f)
			}
			args = append(args, v)
			names = append(names, column)
			places = append(places, fmt.Sprintf("$%d", len(args)))
		}
		if _, err := db.ExecContext(t.Context(), "INSERT INTO "+r.table+" ("+strings.Join(names, ", ")+") VALUES ("+strings.Join(places, ", ")+")", args...); err != nil {
			t.Fatalf("%s: %v", r.table, err)
		}
	}
}

func checkFirst(t *testing.T, s *sqlstore.Store) {
	t.Helper()
	ctx := t.Context()
	at := func(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
	check := func(what string, got any, err error, want any) {
		t.Helper()
		if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); err != nil || d != "" {
			t.Errorf("%s: %v\n%s", what, err, d)
		}
	}
	secret, err := s.Secret(ctx, "nonce", nil)
	check("secret", string(secret), err, "secret")
	check("nonce", s.UseNonce(ctx, "used", at(4102444800000)) != nil, nil, true)
	account, err := s.AccountByKey(ctx, "t")
	check("account", account, err, acmeserver.Account{
		ID: "a", Thumbprint: "t", Key: []byte("jwk"), Status: acmeserver.StatusValid, Contacts: []string{"mailto:a@example.com"},
		Terms: "https://ca.example/terms", Owner: "w", Binding: []byte("jws"), Kid: "kid", CreatedAt: at(1), Version: 3,
	})
	order, err := s.Order(ctx, "o")
	check("order", order, err, acmeserver.Order{
		ID: "o", AccountID: "a", Owner: "w", Status: acmeserver.StatusProcessing,
		Identifiers: []acme.Identifier{{Type: acme.TypeDNS, Value: "*.a.example"}},
		Authorizations: []acmeserver.Authorization{{
			Identifier: acme.Identifier{Type: acme.TypeDNS, Value: "a.example"}, Wildcard: true, Status: acmeserver.StatusValid,
			Challenges: []acmeserver.Challenge{{
				Type: acme.DNS01, Token: "t", Status: acmeserver.StatusValid, Validated: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
				Addr: netip.MustParseAddr("192.0.2.1"), Attempts: 2,
			}},
		}},
		Profile: "short", NotBefore: at(2), NotAfter: at(3), Error: &acme.Problem{Type: acme.DNS, Detail: "d"}, CreatedAt: at(4),
		Expires: at(4102444800000), CSR: []byte("csr"), Share: "s", KeyHash: "k", Issuing: true, State: []byte("state"), DueAt: at(5), Failures: 1,
		LeaseOwner: "i", LeaseUntil: at(6), Version: 7,
	})
	authorized, err := s.Authorized(ctx, "a", []string{"*.a.example"}, at(10))
	check("authorization", authorized, err, true)
	certificate, err := s.CertificateByID(ctx, "c")
	check("certificate", certificate, err, acmeserver.Certificate{
		ID: "c", OrderID: "p", AccountID: "a", Owner: "w", Chains: [][]byte{[]byte("first"), []byte("second")}, Fingerprint: "f", KeyHash: "k",
		ARIID: "r", Identifiers: []string{"a.example"}, NotBefore: at(1), NotAfter: at(4102444800000), State: []byte("state"), ReplacedBy: "q", CreatedAt: at(2),
	})
	shared, err := s.Uncollected(ctx, "s", "k", at(1), at(1))
	check("shared", shared.ID, err, "c")
}
