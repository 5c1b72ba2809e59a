package cmd_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/pgtest"
)

// later moves all times in the proxy's database back, as if that time had passed,
// while the proxy does not run: later DURATION
func later(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: later DURATION")
	}
	d, err := time.ParseDuration(args[0])
	ts.Check(err)
	db, err := sql.Open("sqlite", ts.MkAbs("data/acmeproxy.db"))
	ts.Check(err)
	defer db.Close()
	for _, column := range []string{
		"credentials.created_at", "credentials.expires_at", "bundles.created_at", "managed.last_error_at", "managed.due_at", "managed.lease_until", "hooks_pending.due_at", "hooks_pending.lease_until",
		"pauses.asked_at", "pauses.paid_until", "pauses.last_error_at", "pauses.retry_at", "pauses.expires_at",
	} {
		table, column, _ := strings.Cut(column, ".")
		var tables int
		ts.Check(db.QueryRow("SELECT COUNT(*) FROM sqlite_master WHERE name = $1", table).Scan(&tables))
		if tables == 0 {
			continue // the database of an older program
		}
		_, err := db.Exec(fmt.Sprintf("UPDATE %s SET %s = %s - $1 WHERE %s > 0", table, column, column, column), d.Milliseconds())
		ts.Check(err)
	}
}

// startPostgres starts a PostgreSQL server for this script: postgres. It sets
// POSTGRES to its address, host:port, and SECRET to the password of its user
// acmeproxy, who owns the empty database acmeproxy.
func startPostgres(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: postgres")
	}
	server, stop, err := pgtest.Run(context.Background())
	if errors.Is(err, pgtest.ErrNotInstalled) && !pebbletest.ToolsRequired() {
		state(ts).t.Skip("SKIP: " + err.Error())
	}
	ts.Check(err)
	ts.Defer(stop)
	secret := rand.Text()
	for _, statement := range []string{
		"CREATE ROLE acmeproxy LOGIN PASSWORD '" + secret + "'",
		"CREATE DATABASE acmeproxy OWNER acmeproxy",
	} {
		ts.Check(server.Do(context.Background(), statement))
	}
	ts.Setenv("POSTGRES", fmt.Sprintf("127.0.0.1:%d", server.Port))
	ts.Setenv("SECRET", secret)
}

// sshKey creates an SSH key pair without a passphrase: sshkey FILE
func sshKey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sshkey FILE")
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	ts.Check(err)
	block, err := ssh.MarshalPrivateKey(private, "")
	ts.Check(err)
	line, err := ssh.NewPublicKey(public)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(block), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".pub"), ssh.MarshalAuthorizedKey(line), 0o600))
}

// serves connects to the API like a browser that trusts the CA: [!] serves NAME
func serves(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] serves NAME")
	}
	s := state(ts)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.ca.RootsPEM)
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.https), &tls.Config{ServerName: args[0], RootCAs: roots})
	if err == nil {
		conn.Close()
	}
	if (err == nil) == neg {
		ts.Fatalf("TLS as %s: %v", args[0], err)
	}
}

// connectProxy starts an HTTP proxy, which many networks require, and sets
// HTTPS_PROXY: connectproxy FILE. It writes a line for each CONNECT to the file. It
// resolves every name to this host, because no other resolver knows them.
func connectProxy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: connectproxy FILE")
	}
	log, err := os.OpenFile(ts.MkAbs(args[0]), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	ts.Check(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	p := &tunnels{log: log, conns: map[net.Conn]bool{}}
	p.running.Go(func() { p.accept(l) })
	ts.Defer(func() {
		l.Close()
		p.close()
		p.running.Wait()
		log.Close()
	})
	ts.Setenv("HTTPS_PROXY", "http://"+l.Addr().String())
}

// tunnels implements a CONNECT proxy (RFC 9110, section 9.3.6).
type tunnels struct {
	log     *os.File
	running sync.WaitGroup
	mu      sync.Mutex // guards conns, nil when closed
	conns   map[net.Conn]bool
}

func (t *tunnels) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		if t.track(conn) {
			t.running.Go(func() { _ = t.tunnel(conn) })
		}
	}
}

func (t *tunnels) track(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns == nil {
		c.Close()
		return false
	}
	t.conns[c] = true
	return true
}

func (t *tunnels) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.conns {
		c.Close()
	}
	t.conns = nil
}

func (t *tunnels) tunnel(conn net.Conn) error {
	defer conn.Close()
	in := bufio.NewReader(conn)
	r, err := http.ReadRequest(in)
	if err != nil {
		return err
	}
	if r.Method != http.MethodConnect {
		return errors.New("not CONNECT")
	}
	if _, err := fmt.Fprintf(t.log, "CONNECT %s\n", r.Host); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		return err
	}
	out, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		_, err = io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return err
	}
	if !t.track(out) {
		return net.ErrClosed
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return err
	}
	t.running.Go(func() {
		_, _ = io.Copy(conn, out) // the first side to close ends both
		conn.Close()
	})
	_, err = io.Copy(out, in)
	out.Close()
	return err
}
