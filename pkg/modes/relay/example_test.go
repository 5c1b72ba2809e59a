package relay_test

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/sqlstore"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	"github.com/acmeproxy/acmeproxy/pkg/modes/relay"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

func ExampleRelay() {
	serve := func(ctx context.Context, mux *http.ServeMux, st *store.Store, log *audit.Log, pool *issuer.Pool, secret []byte) error {
		r := relay.New(relay.Config{
			Store: st, Audit: log, BindingSecret: secret, Logger: slog.Default(),
			CA: func() (relay.CA, func()) { return pool, func() {} },
		})
		server, err := acmeserver.New(acmeserver.Config{
			URL: "https://acmeproxy.example.com/acme", Storage: sqlstore.New(st.DB),
			Accounts: r, Policy: r, Issuer: r, Meta: r.Meta,
		})
		if err != nil {
			return err
		}
		mux.Handle("/acme/", server)
		go server.Run(ctx)
		return nil
	}
	_ = serve
}
