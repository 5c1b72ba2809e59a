package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/dsn"
)

const (
	// oldestPostgres is the first version with AS MATERIALIZED.
	oldestPostgres = 12
	// postgresConns is the maximum number of connections of one instance. A server
	// accepts 100 by default. Callers wait for a free one.
	postgresConns = 10
	// untilNextTry is Open's pause between attempts while the server is unreachable.
	untilNextTry = time.Second
)

// sessionDefaults limit the time of statements, so that no caller waits forever for a
// failing server. The URL may set other values.
var sessionDefaults = map[string]string{
	"statement_timeout":                   "30s",
	"lock_timeout":                        "10s",
	"idle_in_transaction_session_timeout": "60s",
}

// openPostgres opens one pool for reading and writing.
func openPostgres(ctx context.Context, c Config) (_ *DB, m Migration, err error) {
	u, err := dsn.Parse(c.URL)
	if err != nil {
		return nil, m, fmt.Errorf("open database: %w", err)
	}
	db := &DB{now: c.Now, name: u.String(), parts: c.Parts, dialect: dialect{
		skipLocked: "FOR UPDATE SKIP LOCKED",
		classify:   func(err error) error { return classifyPostgres(u, err) },
		snapshot:   &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
		exclusive: func(tables []string) []string {
			return []string{
				"SET LOCAL statement_timeout = 0", "SET LOCAL idle_in_transaction_session_timeout = 0",
				"LOCK TABLE " + strings.Join(tables, ", ") + " IN ACCESS EXCLUSIVE MODE",
			}
		},
		lockTable: "LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE",
		lockText:  "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
		others: `SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = current_database()
			AND application_name LIKE 'acmeproxy %' AND application_name <> current_setting('application_name')`,
	}}
	cfg, err := postgresConfig(c.URL, u)
	if err != nil {
		return nil, m, db.Fail(err, "open database %s", db.name)
	}
	db.write = openPool(cfg)
	db.read = db.write
	db.reader = db.read
	db.listener = cfg.Copy()
	defer func() {
		if err != nil {
			_ = db.Close()
		}
	}()
	if err := db.reach(ctx, c); err != nil {
		return nil, m, fmt.Errorf("open database %s: %w", db.name, err)
	}
	if m, err = migratePostgres(ctx, cfg, c.Parts); err != nil {
		return nil, m, db.Fail(err, "open database %s", db.name)
	}
	return db, m, nil
}

func openPool(cfg *pgx.ConnConfig) *sql.DB {
	db := stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		err := checkServer(conn.PgConn().ParameterStatus("server_version"), conn.PgConn().ParameterStatus("server_encoding"))
		if err != nil {
			_ = conn.Close(ctx) // the pool does not close it
		}
		return err
	}), stdlib.OptionShouldPing(func(context.Context, stdlib.ShouldPingParams) bool {
		return true // a round trip, so that no request fails on connections to a server that was restarted
	}))
	db.SetMaxOpenConns(postgresConns)
	db.SetMaxIdleConns(postgresConns)
	// A firewall may drop idle connections, and a new primary needs new ones.
	db.SetConnMaxIdleTime(2 * time.Minute)
	db.SetConnMaxLifetime(30 * time.Minute)
	return db
}

// postgresConfig returns the driver's configuration from the URL and the environment
// (PGUSER, PGPASSFILE and so on), with our limits. It removes the URL from the driver's
// error.
func postgresConfig(raw string, u dsn.URL) (*pgx.ConnConfig, error) {
	// pgx reads the PG variables of the process itself, so the defaults must, too.
	cfg, err := pgx.ParseConfig(withDefaults(raw, u, os.Getenv))
	if err != nil {
		_, reason, _ := strings.Cut(err.Error(), "`: ") // after the URL
		return nil, fmt.Errorf("%s: correct the URL", dsn.Mask(reason))
	}
	for name, value := range sessionDefaults {
		if cfg.RuntimeParams[name] == "" {
			cfg.RuntimeParams[name] = value
		}
	}
	// The claims are written for this level, so the database's default must not count.
	cfg.RuntimeParams["default_transaction_isolation"] = "read committed"
	cfg.RuntimeParams["application_name"] = applicationName()
	if cfg.ValidateConnect == nil { // of several servers, take the one that can write
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	cfg.DialFunc = (&net.Dialer{
		Timeout:         cfg.ConnectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
		Control:         boundSilence,
	}).DialContext
	return cfg, nil
}

// withDefaults adds our defaults to the URL. A connection to another host is encrypted,
// and the server's certificate is verified.
func withDefaults(raw string, u dsn.URL, getenv func(string) string) string {
	add := func(param, variable, value string) {
		if u.Params.Has(param) || getenv(variable) != "" || u.Params.Has("service") || getenv("PGSERVICE") != "" {
			return
		}
		sep := "?"
		if strings.Contains(raw, "?") {
			sep = "&"
		}
		raw += sep + param + "=" + value
	}
	add("connect_timeout", "PGCONNECT_TIMEOUT", "5")
	inSocket := len(u.Hosts) == 0 && getenv("PGHOST") == "" // the driver's default
	if !u.Local() && !inSocket && !u.Params.Has("ssl") {
		add("sslmode", "PGSSLMODE", "verify-full")
	}
	return raw
}

// boundSilence closes a connection whose peer has acknowledged nothing for half a
// minute. The kernel's default is a quarter of an hour.
func boundSilence(network, _ string, conn syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var failed error
	err := conn.Control(func(fd uintptr) {
		failed = setUserTimeout(fd, 30*time.Second)
	})
	return errors.Join(err, failed)
}

// applicationName returns the name of this process for the server's list of sessions.
// Each process has a different one.
func applicationName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("acmeproxy %.40s/%d", host, os.Getpid())
}

// checkServer returns an error for a server that the queries cannot run on.
func checkServer(version, encoding string) error {
	number, _, _ := strings.Cut(version, ".")
	number, _, _ = strings.Cut(number, " ")
	// A version that is not a number, such as 18beta1, is new.
	if major, err := strconv.Atoi(number); err == nil && major < oldestPostgres {
		return fmt.Errorf("the server is PostgreSQL %s: use version %d or newer", version, oldestPostgres)
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database's encoding is %s: create one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0", encoding)
	}
	return nil
}

// reach connects, and waits for a server that is unreachable.
func (db *DB) reach(ctx context.Context, c Config) error {
	deadline := time.Now().Add(c.Wait)
	for {
		err := db.Ping(ctx)
		if !errors.Is(err, managed.ErrUnreachable) || ctx.Err() != nil || time.Until(deadline) < untilNextTry {
			return err
		}
		if c.Waiting != nil {
			c.Waiting(err)
		}
		select {
		case <-time.After(untilNextTry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// migratePostgres migrates the schema, one instance at a time and without a timeout.
// The lock belongs to a session, so it needs one connection.
func migratePostgres(ctx context.Context, cfg *pgx.ConnConfig, parts []Part) (Migration, error) {
	cfg = cfg.Copy()
	cfg.RuntimeParams["statement_timeout"] = "0"
	db := openPool(cfg)
	defer db.Close()
	const everySecond, tries = 1, 300
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(everySecond, tries))
	if err != nil {
		return Migration{}, err
	}
	return migrate(ctx, goose.DialectPostgres, db, parts, nil, goose.WithSessionLocker(locker))
}
