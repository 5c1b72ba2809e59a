// Command acmed is a complete ACME server for a private network, and an example of
// package acmeserver. README.md shows how to use it.
package main

import (
	"context"
	"errors"
	"flag"
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

func run(ctx context.Context, logger *slog.Logger) (err error) {
	dir := flag.String("dir", "acmed-data", "folder of the keys, the database and ca.pem")
	database := flag.String("database", "", "URL of a PostgreSQL database; SQLite if empty")
	host := flag.String("host", "localhost", "name or address of this server, as clients write it")
	plain := flag.String("http", ":8000", "address for ACME without TLS, and for CRLs")
	secure := flag.String("https", ":8443", "address for ACME with TLS")
	challenges := flag.String("challenges", "on", "on, or off: every client gets every certificate")
	var network validation.Network
	flag.Func("resolver", "DNS server for challenges, host:port; the system's if not set", func(s string) error {
		network.Resolvers = append(network.Resolvers, s)
		return nil
	})
	flag.Func("allow", "private network where challenges may be validated, such as 10.0.0.0/8", func(s string) error {
		prefix, err := netip.ParsePrefix(s)
		network.Allow = append(network.Allow, prefix)
		return err
	})
	flag.Parse()
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}

	// The issuer is a CA with its keys on disk. It keeps other processes out of the folder.
	ca, err := localca.Open(localca.Config{Dir: filepath.Join(*dir, "ca"), CommonName: "acmed", URL: baseURL("http", *host, *plain) + "/ca"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ca.Close()) }()
	roots := filepath.Join(*dir, "ca.pem")
	if err := writeRoots(roots, ca, logger); err != nil {
		return err
	}

	// The storage is a SQLite file or a PostgreSQL database.
	where := sqldb.Config{URL: *database, Parts: []sqldb.Part{sqlstore.Part()}}
	if *database == "" {
		where.Path = filepath.Join(*dir, "acmed.db")
	}
	db, err := sqldb.Open(ctx, where)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	storage := sqlstore.New(db)
	if *database == "" { // no other process uses the file, so a killed one had the leases
		if err := storage.FreeLeases(ctx); err != nil {
			return err
		}
	}

	// The policy demands a challenge for each name, or treats all names as authorized.
	var policy acmeserver.Policy = acmeserver.Challenged{Types: []string{acme.HTTP01, acme.DNS01, acme.TLSALPN01}}
	switch *challenges {
	case "on":
	case "off":
		policy = acmeserver.Trusting{}
	default:
		return errors.New("-challenges: it must be on or off")
	}

	// Two servers share all of this. The URLs of one begin with http, those of the other
	// with https.
	group, ctx := errgroup.WithContext(ctx)
	for scheme, addr := range map[string]string{"http": *plain, "https": *secure} {
		group.Go(func() error {
			server, err := acmeserver.New(acmeserver.Config{
				URL:     baseURL(scheme, *host, addr) + "/acme",
				Storage: storage, Issuer: ca, Policy: ca.Policy(policy), Validators: validation.All(network),
				Dates: true, Logger: logger.With("scheme", scheme),
			})
			if err != nil {
				return err
			}
			mux := http.NewServeMux()
			mux.Handle("/acme/", server)
			mux.Handle("/ca/", ca.Handler())
			group.Go(func() error { server.Run(ctx); return nil })
			return serve(ctx, scheme, addr, mux, ca.GetCertificate(*host, "127.0.0.1", "::1"), logger)
		})
	}
	group.Go(func() error { return rotate(ctx, ca, roots, logger) })
	return group.Wait()
}
