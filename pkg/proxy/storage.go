package proxy

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/sqlstore"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/store/dsn"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

func (p *Proxy) openStore(ctx context.Context) error {
	unlock, err := openDataDir(p.cfg.DataDir)
	if err != nil {
		return err
	}
	p.onClose(unlock)
	if risk := localfile.Risk(p.cfg.DataDir); risk != "" {
		p.log.Warn("the data directory is not safe", "risk", risk)
	}
	if p.identity, err = seal.LoadOrCreateIdentity(filepath.Join(p.cfg.DataDir, identityName)); err != nil {
		return err
	}
	where := StoreConfig(p.cfg.Serve)
	where.Now = p.cfg.Now
	where.Wait = storeTimeout
	where.Waiting = func(err error) { p.log.Warn("waiting for the database", "error", err) }
	where.Migrated = func(m sqldb.Migration) {
		if m.From == 0 {
			p.log.Info("a new database was created", "schema", m.To)
			return
		}
		p.log.Info("the database's schema was migrated", "from", m.From, "to", m.To, "copy", m.Copy)
	}
	if p.store, err = store.Open(ctx, where); err != nil {
		return err
	}
	p.onClose(p.store.Close)
	// The lock on the data directory shows that no other process uses a database in
	// it, so the leases of a killed predecessor can be freed. A PostgreSQL database may
	// have other instances; there, the leases of a dead one expire.
	if p.cfg.Store == "" {
		if err := errors.Join(p.store.FreeLeases(ctx), sqlstore.New(p.store.DB).FreeLeases(ctx)); err != nil {
			return err
		}
	}
	if err := p.unpark(ctx); err != nil {
		return err
	}
	if p.newQuota, err = p.store.WantsDefaultQuota(ctx); err != nil {
		return err
	}
	p.audit = audit.New(audit.Config{Store: p.store, Logger: p.log, Now: p.cfg.Now, DefaultQuota: p.cfg.DailyQuota(p.newQuota)})
	p.tls, err = newAPITLS(ctx, p.store, p.identity)
	return err
}

// storeTimeout limits how long a starting proxy waits for a database server, which
// may also be starting.
const storeTimeout = time.Minute

// StoreConfig returns the location of the database for these settings, with its parts.
func StoreConfig(cfg config.Serve) store.Config {
	if cfg.Store != "" {
		return store.Config{URL: cfg.Store, Parts: parts()}
	}
	return store.Config{Path: filepath.Join(cfg.DataDir, databaseName), Parts: parts()}
}

// StoreAt returns the database with a PostgreSQL URL or the path of a SQLite file, with
// its parts.
func StoreAt(place string) store.Config {
	if dsn.Is(place) {
		return store.Config{URL: place, Parts: parts()}
	}
	return store.Config{Path: place, Parts: parts()}
}

// parts returns the tables of other packages in the proxy's database. All that opens the
// database must name them, or a copy would miss rows.
func parts() []sqldb.Part { return []sqldb.Part{sqlstore.Part()} }
