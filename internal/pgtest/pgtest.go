// Package pgtest starts a private PostgreSQL server for a test: a separate cluster
// in a temporary folder, on a unix socket and a loopback port. It uses the programs
// of Debian's package postgresql and never touches a server of the machine. When run
// as root, it starts the server as the user postgres.
//
//	server := pgtest.Start(t)
//	url := server.Database(t) // a new, empty one for each call
package pgtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
)

// ErrNotInstalled is returned by Run if PostgreSQL is not installed.
var ErrNotInstalled = errors.New("PostgreSQL is not installed; run apt-get install postgresql to run its tests")

// Server is a running server.
type Server struct {
	Port     int
	Socket   string // folder of the unix socket, which needs no password
	Password string // of the superuser, postgres
	settings []string
	bin      string
	dir      string
	as       *account // nil: this user
	log      tail
	cmd      *exec.Cmd
}

// Start starts a server that runs until the test ends. If PostgreSQL is not
// installed, the test is skipped. With ACMEPROXY_REQUIRE_TOOLS=1, as in CI, it fails.
// Each setting reads like "fsync=on", which is off by default.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	// Not t.Context(): it ends before the cleanup of tests.
	s, stop, err := Run(context.Background(), settings...)
	if errors.Is(err, ErrNotInstalled) && !pebbletest.ToolsRequired() {
		t.Skipf("SKIP: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("PostgreSQL's log:\n%s", s.Log())
		}
	})
	return s
}

// Run starts a server; stop ends it and removes its files.
func Run(ctx context.Context, settings ...string) (s *Server, stop func(), err error) {
	s = &Server{Password: rand.Text(), settings: settings}
	if s.bin, err = find(); err != nil {
		return nil, nil, err
	}
	if s.as, err = credential(); err != nil {
		return nil, nil, err
	}
	// Short, because the path of a socket is limited.
	if s.dir, err = os.MkdirTemp("", "pg"); err != nil {
		return nil, nil, err
	}
	s.Socket = s.dir
	stop = func() {
		s.Stop()
		os.RemoveAll(s.dir)
	}
	if err = s.create(ctx); err == nil {
		s.Port, err = pebbletest.FreePort()
	}
	if err == nil {
		err = s.Resume(ctx)
	}
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("start PostgreSQL: %w\n%s", err, s.Log())
	}
	return s, stop, nil
}

// find returns the folder of the newest installed server's programs.
func find() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	newest, bin := -1, ""
	for _, path := range found {
		dir := filepath.Dir(path)
		if n, err := strconv.Atoi(filepath.Base(filepath.Dir(dir))); err == nil && n > newest {
			newest, bin = n, dir
		}
	}
	if bin == "" {
		if path, err := exec.LookPath("postgres"); err == nil {
			return filepath.Dir(path), nil
		}
		return "", ErrNotInstalled
	}
	return bin, nil
}

// create creates the cluster. Only connections to the port need a password.
func (s *Server) create(ctx context.Context) error {
	secret := filepath.Join(s.dir, "password")
	if err := os.WriteFile(secret, []byte(s.Password), 0o600); err != nil {
		return err
	}
	if s.as != nil {
		for _, path := range []string{s.dir, secret} {
			if err := os.Chown(path, s.as.uid, s.as.gid); err != nil {
				return err
			}
		}
	}
	cmd := s.command(ctx, "initdb", "-D", s.data(), "-U", "postgres", "--pwfile="+secret, "--no-sync",
		"--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out.Bytes())
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	s.as.run(cmd)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Resume starts the server again after Stop, on the same port and data, and
// waits until it answers.
func (s *Server) Resume(ctx context.Context) error {
	args := []string{"-D", s.data(), "-k", s.Socket, "-h", "127.0.0.1", "-p", strconv.Itoa(s.Port)}
	for _, setting := range append([]string{
		"fsync=off", "full_page_writes=off", "shared_buffers=16MB", "max_connections=60", "log_min_messages=warning",
	}, s.settings...) {
		args = append(args, "-c", setting)
	}
	s.cmd = s.command(ctx, "postgres", args...)
	if err := s.cmd.Start(); err != nil {
		return err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(time.Minute)
	for {
		err := s.Do(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-timeout:
			return err
		}
	}
}

// Stop ends the server at once, as a crash does. It may be called twice.
func (s *Server) Stop() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGQUIT) // it may be gone
	_ = s.cmd.Wait()                          // ended by a signal
	s.cmd = nil
}

// Log returns the end of the server's output; after LogStatements, all of it.
func (s *Server) Log() string { return s.log.String() }

// LogStatements makes the server log every statement of later connections to a
// database, with parameters. It retains the whole log.
func (s *Server) LogStatements(t testing.TB, databaseURL string) {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	s.log.retainAll()
	name := pgx.Identifier{strings.TrimPrefix(u.Path, "/")}.Sanitize()
	s.Exec(t, "ALTER DATABASE "+name+" SET log_statement = 'all'")
}

// URL returns a database's URL over TCP, with the superuser's password.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", s.Password),
		Host: fmt.Sprintf("127.0.0.1:%d", s.Port), Path: "/" + database,
	}
	return u.String()
}

// SocketURL returns a database's URL over the unix socket, without a password.
func (s *Server) SocketURL(database string) string {
	return fmt.Sprintf("postgres://postgres@/%s?host=%s&port=%d", database, s.Socket, s.Port)
}

// Database creates an empty database and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := NewName()
	s.Exec(t, "CREATE DATABASE "+name)
	return s.URL(name)
}

// CopyOf creates a copy of a database that has no connections, and returns its URL.
func (s *Server) CopyOf(t testing.TB, database string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	name := NewName()
	s.Exec(t, "CREATE DATABASE "+name+" TEMPLATE "+strings.TrimPrefix(u.Path, "/"))
	return s.URL(name)
}

// NewName returns a name that no database has.
func NewName() string { return "t" + strings.ToLower(rand.Text()) }

// Exec runs statements as the superuser, in the database postgres.
func (s *Server) Exec(t testing.TB, statements ...string) {
	t.Helper()
	if err := s.Do(t.Context(), statements...); err != nil {
		t.Fatal(err)
	}
}

// Do runs statements like Exec, and returns the error.
func (s *Server) Do(ctx context.Context, statements ...string) (err error) {
	conn, err := pgx.Connect(ctx, s.SocketURL("postgres"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// Dump returns pg_dump's text, which is all that a thief of a backup has.
func (s *Server) Dump(t testing.TB, databaseURL string) []byte {
	t.Helper()
	cmd := s.command(t.Context(), "pg_dump", databaseURL)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("pg_dump: %v", err)
	}
	return out.Bytes()
}

// tail stores the end of a log. It may be used concurrently.
type tail struct {
	mu  sync.Mutex // guards the fields below
	buf []byte
	all bool // retain everything
}

func (t *tail) retainAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = true
}

func (t *tail) Write(p []byte) (int, error) {
	const size = 32 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if !t.all {
		t.buf = t.buf[max(0, len(t.buf)-size):]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

// Readable replaces pg_dump's encoding of binary columns with the bytes themselves.
func Readable(dump []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(dump) {
		for field := range bytes.SplitSeq(bytes.TrimSuffix(line, []byte("\n")), []byte("\t")) {
			digits, isBinary := bytes.CutPrefix(field, []byte(`\\x`))
			if raw, err := hex.DecodeString(string(digits)); isBinary && err == nil {
				field = raw
			}
			out.Write(field)
			out.WriteByte('\t')
		}
		out.WriteByte('\n')
	}
	return out.Bytes()
}
