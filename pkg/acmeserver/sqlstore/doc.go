// Package sqlstore stores the records of an ACME server in SQLite or PostgreSQL. It
// implements [acmeserver.Storage].
//
// Its tables are a part of a database of package sqldb, so a program can have other
// tables in the same database. Several processes may use one PostgreSQL database. A
// SQLite file belongs to one process at a time.
//
// The package must never interpret a certificate, a key or an issuer's state: it stores
// them as it gets them, sealed if the Server has a Sealer. Every query finds its rows by
// an index, so old records do not slow it down.
//
//	db, err := sqldb.Open(ctx, sqldb.Config{Path: "/var/lib/acmed/acmed.db", Parts: []sqldb.Part{sqlstore.Part()}})
//	if err != nil {
//		return err
//	}
//	defer db.Close()
//	server, err := acmeserver.New(acmeserver.Config{Storage: sqlstore.New(db), …})
package sqlstore
