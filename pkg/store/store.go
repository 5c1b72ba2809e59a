package store

import (
	"context"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// Config describes the database. Its fields are those of [sqldb.Config], except for the
// last two.
type Config struct {
	Path     string
	URL      string
	Wait     time.Duration
	Waiting  func(error)
	Migrated func(sqldb.Migration)
	Now      func() time.Time

	// Trail limits the audit trail.
	Trail Trail
	// Parts own further tables in the same database. Their packages use the DB of the
	// Store.
	Parts []sqldb.Part
}

func (c Config) engine() sqldb.Config {
	return sqldb.Config{
		Path: c.Path, URL: c.URL, Wait: c.Wait, Waiting: c.Waiting, Migrated: c.Migrated, Now: c.Now,
		Parts: append([]sqldb.Part{Part()}, c.Parts...),
	}
}

// Store is an open database with the methods of all its parts. Each part owns some
// tables. Methods that concern several parts belong to Store itself.
type Store struct {
	*sqldb.DB
	*accountStore
	*secretStore
	*clientStore
	*credentialStore
	*certificateStore
	*deploymentStore
	*auditStore
	*quotaStore
}

// accountStore holds the accounts at CAs.
type accountStore struct{ *sqldb.DB }

// secretStore holds small sealed values.
type secretStore struct{ *sqldb.DB }

// clientStore holds clients with their grants.
type clientStore struct {
	*sqldb.DB
	audit *auditStore
}

// credentialStore holds the credentials of clients.
type credentialStore struct{ *sqldb.DB }

// certificateStore holds managed certificates with their names, bundles, orders
// and pauses.
type certificateStore struct {
	*sqldb.DB
	audit *auditStore
}

// deploymentStore holds pending deployments.
type deploymentStore struct{ *sqldb.DB }

// auditStore holds the audit trail.
type auditStore struct {
	*sqldb.DB
	bounds Trail
}

// quotaStore counts requests of clients by day.
type quotaStore struct {
	*sqldb.DB
	audit *auditStore
}

// Open opens the database as [sqldb.Open] does, with the proxy's tables and those
// of c.Parts.
func Open(ctx context.Context, c Config) (*Store, error) {
	db, err := sqldb.Open(ctx, c.engine())
	if err != nil {
		return nil, err
	}
	audit := &auditStore{db, c.Trail.orDefaults()}
	return &Store{
		DB: db, accountStore: &accountStore{db}, secretStore: &secretStore{db}, clientStore: &clientStore{db, audit},
		credentialStore: &credentialStore{db}, certificateStore: &certificateStore{db, audit},
		deploymentStore: &deploymentStore{db}, auditStore: audit, quotaStore: &quotaStore{db, audit},
	}, nil
}

// Migrate brings the schema up to date, as Open does, and returns the changes.
func Migrate(ctx context.Context, c Config) (sqldb.Migration, error) {
	return sqldb.Migrate(ctx, c.engine())
}
