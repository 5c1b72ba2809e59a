package sqldb

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store/dsn"
)

// classifyPostgres maps PostgreSQL's error codes (its manual, appendix A).
func classifyPostgres(u dsn.URL, err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return managed.ErrNotFound
	}
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return classifyCode(u, err, e)
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	var connect *pgconn.ConnectError
	var op *net.OpError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.Is(err, pgconn.ErrReadOnlyConnection):
		return fmt.Errorf("the server is a read-only standby: name the primary, or all servers as postgres://user@one,two/database")
	case errors.As(err, &cert):
		return fmt.Errorf("%w: name the PEM file of the CA that signed the server's certificate with sslrootcert=FILE in the URL", cert)
	case errors.As(err, &connect):
		cause := oneLine(connect.Unwrap())
		if strings.Contains(cause, "refused TLS") {
			return fmt.Errorf("%s: switch TLS on at the server (ssl = on), or, if the network to it is trusted, add sslmode=disable to the URL", cause)
		}
		return &unreachable{fmt.Sprintf("%s: check that PostgreSQL runs there, listens on that address, and that no firewall is between", cause), err}
	case errors.As(err, &op), pgconn.Timeout(err), errors.Is(err, pgconn.ErrConnClosed), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &unreachable{fmt.Sprintf("%s: the connection broke", oneLine(err)), err}
	}
	return err
}

// unreachable wraps ErrUnreachable with a text for the administrator.
type unreachable struct {
	text  string
	cause error
}

func (e *unreachable) Error() string   { return e.text }
func (e *unreachable) Unwrap() []error { return []error{managed.ErrUnreachable, e.cause} }

func classifyCode(u dsn.URL, whole error, e *pgconn.PgError) error {
	switch e.Code {
	case "23505": // unique_violation
		return managed.ErrConflict
	case "23503": // foreign_key_violation
		return managed.ErrNotFound // the referenced row
	case "22021": // character_not_in_repertoire
		return managed.ErrNotText
	case "28P01", "28000": // invalid_password, invalid_authorization_specification
		return fmt.Errorf("%w: check the user and the password in the URL or in the file that PGPASSFILE names, and the server's pg_hba.conf", e)
	case "3D000": // invalid_catalog_name
		return fmt.Errorf("%w: create it, as the server's administrator: CREATE DATABASE %s OWNER %s ENCODING 'UTF8' TEMPLATE template0", e, identifier(u.Database), identifier(u.User))
	case "42501": // insufficient_privilege
		return fmt.Errorf("%w: make this user the database's owner: ALTER DATABASE %s OWNER TO %s", e, identifier(u.Database), identifier(u.User))
	case "25006": // read_only_sql_transaction
		return fmt.Errorf("%w: the server is a read-only standby: name the primary", e)
	case "53300": // too_many_connections
		return &unreachable{e.Error() + fmt.Sprintf(": each instance takes up to %d connections: raise the server's max_connections or the user's limit", postgresConns), whole}
	case "57P01", "57P02", "57P03": // admin_shutdown, crash_shutdown, cannot_connect_now
		return &unreachable{e.Error() + ": the server is starting or stopping: wait until it is up", whole}
	case "53100": // disk_full
		return fmt.Errorf("%w: make room on the server's disk", e)
	case "57014", "55P03": // query_canceled (by a timeout, if not by us), lock_not_available
		return fmt.Errorf("%w: the server is overloaded, or another session holds a lock: see pg_stat_activity", whole)
	case "42704", "22023": // undefined_object, invalid_parameter_value
		if connect := (*pgconn.ConnectError)(nil); errors.As(whole, &connect) {
			return fmt.Errorf("%w: correct the parameters after the ? of the URL", e)
		}
	}
	return whole
}

// identifier quotes an SQL name for a statement in a message. An empty name becomes
// acmeproxy.
func identifier(name string) string {
	if name == "" {
		name = "acmeproxy"
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// oneLine joins the causes of all hosts and attempts, each once.
func oneLine(err error) string {
	var causes []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(causes, line) {
			causes = append(causes, line)
		}
	}
	return dsn.Mask(strings.Join(causes, "; "))
}
