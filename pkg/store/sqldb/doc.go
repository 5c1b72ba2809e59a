// Package sqldb is the database layer under every table of the proxy. It opens SQLite
// or PostgreSQL, runs transactions, maps the errors of both drivers to those of
// package managed, lets instances claim rows, and copies all tables from one database
// to the other.
//
// It defines no table. A [Part] owns tables and registers them with its migrations.
// Each part has a separate schema version. Several parts share one database and one
// transaction. The package must never show a password, and never interpret the rows.
//
// The SQL of the parts is the same for both databases: $1 placeholders, ON CONFLICT,
// RETURNING, times as Unix milliseconds ([Millis], [Time]), lists as newline-separated
// text ([Lines], [List]), no JSON functions. A statement with RETURNING that writes
// must run inside a transaction, so that a failed commit is detected.
//
//	db, err := sqldb.Open(ctx, sqldb.Config{Path: "/var/lib/acmeproxy/acmeproxy.db", Parts: parts})
//	if err != nil {
//		return err
//	}
//	defer db.Close()
//	err = db.Tx(ctx, func(tx *sql.Tx) error { … })
package sqldb
