package store_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
	"github.com/acmeproxy/acmeproxy/pkg/store/storetest"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

func openURL(t *testing.T, url string, now func() time.Time) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{URL: url, Now: now, Trail: storetest.Trail})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// The same contract as SQLite's, concurrency included (C12, D13, D14).
func TestPostgresContract(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	empty := server.Database(t) // migrated once, which takes most of a case's time
	t.Run("migrate", func(t *testing.T) { openURL(t, empty, time.Now) })
	storetest.Run(t, func(t *testing.T, now func() time.Time) *store.Store {
		return openURL(t, server.CopyOf(t, empty), now)
	})
	t.Run("reopen", func(t *testing.T) {
		url := server.Database(t)
		storetest.Reopen(t, func(t *testing.T, now func() time.Time) *store.Store { return openURL(t, url, now) })
	})
}

// Instances that start together on an empty database migrate it once (D13).
func TestPostgresStartTogether(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var applied []string // guarded by mu
	for range 4 {
		wg.Go(func() {
			m, err := store.Migrate(t.Context(), store.Config{URL: url})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			applied = append(applied, m.Applied...)
			if m.To < 1 {
				t.Errorf("schema version %d", m.To)
			}
		})
	}
	wg.Wait()
	files, err := filepath.Glob("migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(applied)
	if n := len(files) + 1; len(applied) != n || len(slices.Compact(applied)) != n || applied[0] != "0001_init.sql" {
		t.Errorf("applied %v, want each once", applied)
	}
	m, err := store.Migrate(t.Context(), store.Config{URL: url})
	if err != nil || len(m.Applied) != 0 || m.From != m.To {
		t.Errorf("again: %+v, %v; want nothing done", m, err)
	}
}

// Every fault names the database and the remedy, and no password (A37, X17).
func TestPostgresOpenErrors(t *testing.T) {
	server := pgtest.Start(t)
	good := server.Database(t)
	latin, foreign, newer := pgtest.NewName(), server.Database(t), server.Database(t)
	server.Exec(t, "CREATE DATABASE "+latin+" ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
		"CREATE ROLE guest LOGIN PASSWORD 's3cret'")
	openURL(t, newer, nil)
	runSQL(t, newer, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9000, TRUE)")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	old := fakeServer(t, "9.6.24")
	for name, tc := range map[string]struct{ url, want string }{
		"no URL":               {"postgres://u:s3c@ret@db/x", "%40 for @"},
		"a bad parameter":      {good + "?sslmode=s3cret", "sslmode is invalid"},
		"a missing CA file":    {good + "?sslmode=verify-full&sslrootcert=/nowhere.pem&password=s3cret", "/nowhere.pem"},
		"an unknown parameter": {good + "?ssl_mode=disable", "ssl_mode"},
		"no server":            {"postgres://u:s3cret@" + closed.Addr().String() + "/x", "check that PostgreSQL runs there"},
		"no such host":         {"postgres://u:s3cret@host.invalid/x?connect_timeout=2", "check that PostgreSQL runs there"},
		"wrong password":       {strings.Replace(good, server.Password, "s3cret", 1), "PGPASSFILE"},
		"no database":          {server.URL("nothing"), `CREATE DATABASE "nothing" OWNER "postgres"`},
		"no right":             {strings.Replace(strings.Replace(foreign, server.Password, "s3cret", 1), "//postgres:", "//guest:", 1), `ALTER DATABASE`},
		"another encoding":     {server.URL(latin), "ENCODING 'UTF8'"},
		"newer schema":         {newer, "run the newer program"},
		"read only":            {good + "?default_transaction_read_only=on", "name the primary"},
		"no TLS":               {good + "?sslmode=require", "ssl = on"},
		"too old":              {"postgres://u:s3cret@" + old + "/x?sslmode=disable&target_session_attrs=any", "use version 12 or newer"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := store.Open(t.Context(), store.Config{URL: tc.url})
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			t.Log(err)
			if !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "open database") {
				t.Errorf("error %q does not say %q", err, tc.want)
			}
			for _, secret := range []string{server.Password, "s3c", "cret"} {
				if strings.Contains(strings.ReplaceAll(err.Error(), "sslmode=s3cret", ""), secret) {
					t.Errorf("error %q shows the password", err)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q has several lines", err)
			}
			if got, want := errors.Is(err, managed.ErrUnreachable), strings.Contains(tc.want, "runs there"); got != want {
				t.Errorf("unreachable: %t, want %t", got, want)
			}
		})
	}
}

func runSQL(t *testing.T, url string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

// fakeServer lets anyone in and has a version that cannot be installed here.
func fakeServer(t *testing.T, version string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(func() { l.Close() })
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				b := pgproto3.NewBackend(conn, conn)
				if _, err := b.ReceiveStartupMessage(); err != nil {
					return
				}
				b.Send(&pgproto3.AuthenticationOk{})
				b.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: version})
				b.Send(&pgproto3.ParameterStatus{Name: "server_encoding", Value: "UTF8"})
				b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
				if err := b.Flush(); err != nil {
					return
				}
				for { // the client may ask which state the server is in
					msg, err := b.Receive()
					if err != nil {
						return
					}
					if _, ok := msg.(*pgproto3.Query); ok {
						b.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("transaction_read_only"), DataTypeOID: 25}}})
						b.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("off")}})
						b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SHOW")})
						b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
						if err := b.Flush(); err != nil {
							return
						}
					}
				}
			})
		}
	})
	return l.Addr().String()
}

// Open waits for a server that starts later, if it is told to.
func TestPostgresWaits(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	server.Stop()
	resumed := make(chan error, 1)
	var once sync.Once
	s, err := store.Open(t.Context(), store.Config{URL: url, Wait: time.Minute, Waiting: func(err error) {
		if !errors.Is(err, managed.ErrUnreachable) {
			t.Errorf("waiting because of %v", err)
		}
		once.Do(func() { resumed <- server.Resume(context.WithoutCancel(t.Context())) })
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := <-resumed; err != nil {
		t.Fatal(err)
	}

	// Being asked to stop ends the wait.
	server.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	_, err = store.Open(ctx, store.Config{URL: url, Wait: time.Hour, Waiting: func(error) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while waiting: %v", err)
	}
}

// A server that goes away and comes back costs errors, not the process.
func TestPostgresComesBack(t *testing.T) {
	server := pgtest.Start(t)
	s := openURL(t, server.Database(t), nil)
	m, _, err := s.EnsureManaged(t.Context(), managed.Certificate{Mode: "acme-client", Names: []string{"a.example"}})
	if err != nil {
		t.Fatal(err)
	}
	server.Stop()
	for range 3 {
		if err := s.Ping(t.Context()); !errors.Is(err, managed.ErrUnreachable) {
			t.Fatalf("while the server is away: %v", err)
		}
	}
	if err := server.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := s.ClaimDue(t.Context(), "w", time.Minute, 0)
	if err != nil || len(got) != 1 || got[0].ID != m.ID {
		t.Errorf("after its return: %v, %v", got, err)
	}
}

// The password may be in a file, and a user that owns the database can do all
// that is needed; by a unix socket as by TCP.
func TestPostgresPasswordFile(t *testing.T) {
	server := pgtest.Start(t)
	name := pgtest.NewName()
	server.Exec(t, "CREATE ROLE acmeproxy LOGIN PASSWORD 'a:b@c'", "CREATE DATABASE "+name+" OWNER acmeproxy")
	file := filepath.Join(t.TempDir(), "pgpass")
	if err := os.WriteFile(file, []byte(`127.0.0.1:*:*:acmeproxy:a\:b@c`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGPASSFILE", file)
	s := openURL(t, fmt.Sprintf("postgres://acmeproxy@127.0.0.1:%d/%s", server.Port, name), nil)
	if _, err := s.CreateClient(t.Context(), clients.Client{Name: "web1"}); err != nil {
		t.Fatal(err)
	}
	other := openURL(t, server.SocketURL(name), nil)
	if _, err := other.ClientByName(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
}

// SQLite's rows arrive in PostgreSQL as they are, and come back the same; a
// target that has anything is refused, and one that is in use (D14, C12).
func TestCopy(t *testing.T) {
	server := pgtest.Start(t)
	clock := storetest.NewClock()
	sqlite := open(t, filepath.Join(t.TempDir(), "from.db"), clock.Now)
	defer sqlite.Close()
	fill(t, sqlite)
	url := server.Database(t)
	pg := openURL(t, url, clock.Now)
	done, err := sqldb.Copy(t.Context(), sqlite.DB, pg.DB)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{
		"accounts": 1, "secrets": 2, "clients": 2, "grants": 2, "credentials": 3, "name_owners": 252, "managed": 251,
		"managed_names": 252, "bundles": 1, "orders": 1, "hooks_pending": 1, "audit": 1, "counters": 2, "limits": 1, "pauses": 1, "facts": 1,
		"wanted_revocations": 1,
	}
	for _, c := range done {
		if c.Rows != want[c.Table] {
			t.Errorf("table %s: %d rows, want %d", c.Table, c.Rows, want[c.Table])
		}
		delete(want, c.Table)
	}
	if len(want) > 0 {
		t.Errorf("not copied: %v", want)
	}
	check(t, pg)

	// Never into a database that has something.
	if _, err := sqldb.Copy(t.Context(), sqlite.DB, pg.DB); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("into a full target: %v", err)
	}
	// Never while another process is on it.
	busy, err := pgx.Connect(t.Context(), url+"?application_name=acmeproxy%20dmz2/4711")
	if err != nil {
		t.Fatal(err)
	}
	back := open(t, filepath.Join(t.TempDir(), "back.db"), clock.Now)
	defer back.Close()
	if _, err := sqldb.Copy(t.Context(), pg.DB, back.DB); err == nil || !strings.Contains(err.Error(), "in use by acmeproxy dmz2/4711") {
		t.Errorf("from a database in use: %v", err)
	}
	busy.Close(t.Context())

	// And back to SQLite.
	if _, err := sqldb.Copy(t.Context(), pg.DB, back.DB); err != nil {
		t.Fatal(err)
	}
	check(t, back)
	checkAllTables(t, url)
}

// Copy fails as a whole: a target that cannot take a row has none.
func TestCopyIsOneTransaction(t *testing.T) {
	server := pgtest.Start(t)
	sqlite := open(t, filepath.Join(t.TempDir(), "from.db"), nil)
	defer sqlite.Close()
	fill(t, sqlite)
	url := server.Database(t)
	pg := openURL(t, url, nil)
	runSQL(t, url, "ALTER TABLE limits ADD CHECK (taken < 0)") // the last table
	if _, err := sqldb.Copy(t.Context(), sqlite.DB, pg.DB); err == nil || !strings.Contains(err.Error(), "table limits") {
		t.Fatalf("copied, or: %v", err)
	}
	if got, err := pg.Clients(t.Context(), "", 0); err != nil || len(got) != 0 {
		t.Errorf("after the failure: %v, %v", got, err)
	}
}

// fill makes at least one row in every table, with the values that databases
// differ in: empty and binary blobs, NULL, true, zero times, non-ASCII text.
func fill(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.CreateAccount(ctx, acme.Account{DirectoryURL: "https://ca.example/dir", Email: "jörg@example.com", SealedKey: []byte{0, 1, 255, 0}})
	must(err)
	_, err = s.CreateSecret(ctx, "api-key", []byte("sealed"))
	must(err)
	_, err = s.CreateSecret(ctx, "empty", nil)
	must(err)
	c, err := s.CreateClient(ctx, clients.Client{Name: "web1", Recipients: []string{"age1a", "age1b"}, Grants: []clients.Grant{{Names: []string{"*.example"}, DailyQuota: 7}, {}}},
		clients.Credential{Kind: clients.Enrolment, Verifier: []byte("once")}, clients.Credential{Kind: clients.Bearer, Verifier: []byte("token")})
	must(err)
	_, err = s.CreateClient(ctx, clients.Client{Name: "off", Disabled: true})
	must(err)
	_, err = s.Enroll(ctx, []byte("once"), clients.Credential{Verifier: []byte("key")}, nil)
	must(err)
	m, _, err := s.Register(ctx, managed.Registration{
		Certificate: managed.Certificate{ClientID: c.ID, Mode: "certificate-agent", Names: []string{"a.example", "b.example"}, CSR: []byte{0}},
		Pause:       managed.Pause{Every: time.Hour},
	})
	must(err)
	_, err = s.ClaimDue(ctx, "w", time.Hour, 0)
	must(err)
	must(s.CompleteManaged(ctx, "w", managed.Bundle{ManagedID: m.ID, ETag: "e", Ciphertext: []byte{0, 0xff}, Serial: "01", CA: "https://ca.example/dir", ARIID: "aki.01"}, time.UnixMilli(1), true))
	_, err = s.ClaimDue(ctx, "w", time.Hour, 0)
	must(err)
	must(s.SaveOrder(ctx, "w", managed.Order{ManagedID: m.ID, URL: "u"}))
	must(s.WantRevocation(ctx, managed.WantedRevocation{ManagedID: m.ID, Serial: "01", Leaf: []byte{0, 0xff}, Forget: true}))
	for i := range 250 { // more than a batch
		_, _, err := s.EnsureManaged(ctx, managed.Certificate{Mode: "acme-client", Names: []string{fmt.Sprintf("n%d.example", i)}})
		must(err)
	}
	must(s.AppendAudit(ctx, trail.Entry{ClientName: "web1", Names: []string{"ü.example"}, Outcome: "done"}))
	_, err = s.TakeQuota(ctx, c.ID, time.Now(), 1)
	must(err)
}

// A text that PostgreSQL cannot store is the caller's fault, which no retry repairs.
func TestPostgresNotText(t *testing.T) {
	s := openURL(t, pgtest.Start(t).Database(t), nil)
	for _, text := range []string{"nul\x00", "\xff"} {
		_, err := s.ClientByName(t.Context(), text)
		if !errors.Is(err, managed.ErrNotText) || managed.IsFault(err) {
			t.Errorf("%q: %v, a fault of the database: %v", text, err, managed.IsFault(err))
		}
	}
}

// check finds what fill made.
func check(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	a, err := s.AccountByDirectory(ctx, "https://ca.example/dir")
	if err != nil || a.Email != "jörg@example.com" || string(a.SealedKey) != "\x00\x01\xff\x00" {
		t.Errorf("account %+v, %v", a, err)
	}
	c, _, err := s.ClientByCredential(ctx, clients.TLSKey, []byte("key"))
	if err != nil || c.Name != "web1" || len(c.Grants) != 2 || c.Grants[0].DailyQuota != 7 {
		t.Errorf("client %+v, %v", c, err)
	}
	if off, err := s.ClientByName(ctx, "off"); err != nil || !off.Disabled {
		t.Errorf("disabled client %+v, %v", off, err)
	}
	if _, err := s.Enroll(ctx, []byte("once"), clients.Credential{Verifier: []byte("another")}, nil); !errors.Is(err, managed.ErrNotFound) {
		t.Errorf("a spent secret enrolled again: %v", err)
	}
	m, err := s.ManagedByNames(ctx, c.ID, "certificate-agent", []string{"b.example", "a.example"})
	if err != nil || m.LeaseOwner != "w" || m.ETag != "e" || m.CA != "https://ca.example/dir" || m.ARIID != "aki.01" {
		t.Errorf("managed %+v, %v", m, err)
	}
	b, err := s.BundleFor(ctx, m.ID)
	if err != nil || string(b.Ciphertext) != "\x00\xff" || b.CA != "https://ca.example/dir" || b.ARIID != "aki.01" {
		t.Errorf("bundle %+v, %v", b, err)
	}
	if o, err := s.OrderFor(ctx, m.ID); err != nil || o.URL != "u" {
		t.Errorf("order %+v, %v", o, err)
	}
	if h, err := s.PendingHookFor(ctx, m.ID); err != nil || h.ETag != "e" {
		t.Errorf("hook %+v, %v", h, err)
	}
	if ok, err := s.TakeQuota(ctx, c.ID, time.Now(), 1); err != nil || ok {
		t.Errorf("the quota was forgotten: %t, %v", ok, err)
	}
	if got, err := s.Audit(ctx, trail.Query{}); err != nil || len(got) != 1 || got[0].Names[0] != "ü.example" {
		t.Errorf("audit %+v, %v", got, err)
	}
	if _, _, err := s.EnsureManaged(ctx, managed.Certificate{ClientID: "", Names: []string{"a.example"}}); !errors.Is(err, managed.ErrOwned) {
		t.Errorf("the name's owner was forgotten: %v", err)
	}
}

// checkAllTables finds a table that a later migration made and Copy forgot.
func checkAllTables(t *testing.T, url string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var empty []string
	rows, err := conn.Query(t.Context(), `SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_name <> 'goose_db_version'`)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		var n int
		if err := conn.QueryRow(t.Context(), "SELECT COUNT(*) FROM "+name).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			empty = append(empty, name)
		}
	}
	if len(empty) > 0 {
		t.Errorf("not copied, or not filled by the test: %v", empty)
	}
}
