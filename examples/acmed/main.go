// Command acmed is a complete ACME server for a private network, and an example of
// package acmeserver. README.md shows how to use it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/localca"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/sqlstore"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/validation"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(ctx, logger); err != nil {
		logger.Error("acmed ends", "error", err)
		os.Exit(1)
	}
}

// settings come from the command line.
type settings struct {
	dir, database       string
	host, plain, secure string
	policy              acmeserver.Policy
	network             validation.Network
}

func parse() (settings, error) {
	var s settings
	flag.StringVar(&s.dir, "dir", "acmed-data", "folder of the keys, the database and ca.pem")
	flag.StringVar(&s.database, "database", "", "URL of a PostgreSQL database; SQLite if empty")
	flag.StringVar(&s.host, "host", "localhost", "name or address of this server, as clients write it")
	flag.StringVar(&s.plain, "http", ":8000", "address for ACME without TLS, and for CRLs")
	flag.StringVar(&s.secure, "https", ":8443", "address for ACME with TLS")
	challenges := flag.String("challenges", "on", "on, or off: every client gets every certificate")
	flag.Func("resolver", "DNS server for challenges, host:port; the system's if not set", func(addr string) error {
		s.network.Resolvers = append(s.network.Resolvers, addr)
		return nil
	})
	flag.Func("allow", "private network where challenges may be validated, such as 10.0.0.0/8", func(text string) error {
		prefix, err := netip.ParsePrefix(text)
		s.network.Allow = append(s.network.Allow, prefix)
		return err
	})
	flag.Parse()
	// The policy demands a challenge for each name, or treats all names as authorized.
	switch *challenges {
	case "on":
		s.policy = acmeserver.Challenged{Types: []string{acme.HTTP01, acme.DNS01, acme.TLSALPN01}}
	case "off":
		s.policy = acmeserver.Trusting{}
	default:
		return s, errors.New("-challenges: it must be on or off")
	}
	if flag.NArg() > 0 {
		return s, fmt.Errorf("unknown argument %q; use flags only", flag.Arg(0))
	}
	return s, nil
}

func run(ctx context.Context, logger *slog.Logger) (err error) {
	s, err := parse()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	// The issuer is a CA with its keys on disk. It keeps other processes out of the folder.
	ca, err := localca.Open(localca.Config{Dir: filepath.Join(s.dir, "ca"), CommonName: "acmed", URL: baseURL("http", s.host, s.plain) + "/ca"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ca.Close()) }()
	roots := filepath.Join(s.dir, "ca.pem")
	if err := writeRoots(roots, ca, logger); err != nil {
		return err
	}
	db, err := openDatabase(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	// Two servers share all of this. The URLs of one begin with http, those of the other
	// with https.
	group, ctx := errgroup.WithContext(ctx)
	for scheme, addr := range map[string]string{"http": s.plain, "https": s.secure} {
		group.Go(func() error {
			server, err := acmeserver.New(acmeserver.Config{
				URL:     baseURL(scheme, s.host, addr) + "/acme",
				Storage: sqlstore.New(db), Issuer: ca, Policy: ca.Policy(s.policy), Validators: validation.All(s.network),
				Dates: true, Logger: logger.With("scheme", scheme),
			})
			if err != nil {
				return err
			}
			mux := http.NewServeMux()
			mux.Handle("/acme/", server)
			mux.Handle("/ca/", ca.Handler())
			group.Go(func() error { server.Run(ctx); return nil })
			return serve(ctx, scheme, addr, mux, ca.GetCertificate(s.host, "127.0.0.1", "::1"), logger)
		})
	}
	group.Go(func() error { return rotate(ctx, ca, roots, logger) })
	return group.Wait()
}

// openDatabase opens the storage: a SQLite file or a PostgreSQL database.
func openDatabase(ctx context.Context, s settings) (*sqldb.DB, error) {
	where := sqldb.Config{URL: s.database, Parts: []sqldb.Part{sqlstore.Part()}}
	if s.database != "" {
		return sqldb.Open(ctx, where)
	}
	where.Path = filepath.Join(s.dir, "acmed.db")
	db, err := sqldb.Open(ctx, where)
	if err != nil {
		return nil, err
	}
	// No other process uses the file, so a killed one had the leases.
	if err := sqlstore.New(db).FreeLeases(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}
