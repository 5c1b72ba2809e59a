// Package sqldb is the engine under every table of the proxy: it opens SQLite or
// PostgreSQL, runs transactions, gives the errors of both drivers one meaning
// (those of package managed), lets instances claim rows, and copies all tables
// from one database to the other.
//
// It knows no table. What owns tables is a [Part]: it registers them together with
// its migrations, and each part has a schema version of its own. Several parts
// share one database and one transaction. The package must never show a password,
// and never decide anything about what the rows mean.
//
// The SQL of the parts is one text for both databases: $1 placeholders, ON
// CONFLICT, RETURNING, times as Unix milliseconds ([Millis], [Time]), lists as
// newline-separated text ([Lines], [List]), no JSON functions. A statement with
// RETURNING that writes always runs inside a transaction, so that a failing commit
// is noticed.
//
//	db, err := sqldb.Open(ctx, sqldb.Config{Path: "/var/lib/acmeproxy/acmeproxy.db", Parts: parts})
//	if err != nil {
//		return err
//	}
//	defer db.Close()
//	err = db.Tx(ctx, func(tx *sql.Tx) error { … })
package sqldb
