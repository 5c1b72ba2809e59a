package sqldb

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"fmt"
	"hash"
	"slices"
	"strings"
	"time"
)

// Copied describes a copied table.
type Copied struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
}

// Copy copies every row of one database to another, which must be empty, in one
// transaction: the target gets all rows or none. Before the commit, all rows are read
// back and compared. No instance may run on either database. Copy detects instances
// that are connected to PostgreSQL. The caller must exclude those on a SQLite file.
func Copy(ctx context.Context, from, to *DB) ([]Copied, error) {
	if !slices.Equal(from.tables(), to.tables()) {
		return nil, fmt.Errorf("copy %s to %s: they have different tables; open both with the same parts", from, to)
	}
	for _, db := range []*DB{from, to} {
		if err := db.checkAlone(ctx); err != nil {
			return nil, err
		}
	}
	source, err := from.write.BeginTx(ctx, from.dialect.snapshot)
	if err != nil {
		return nil, from.Fail(err, "read %s", from)
	}
	defer source.Rollback() // it wrote nothing
	var done []Copied
	err = to.Tx(ctx, func(target *sql.Tx) error {
		if err := to.beginEmpty(ctx, target); err != nil {
			return err
		}
		for _, table := range to.tables() {
			wrote, err := copyTable(ctx, from, source, target, table)
			if err != nil {
				return fmt.Errorf("table %s: %w", table, err)
			}
			have, err := readTable(ctx, target, table, func([]string, []any) error { return nil })
			if err != nil {
				return fmt.Errorf("table %s: read back: %w", table, err)
			}
			if have != wrote {
				return fmt.Errorf("table %s: %d rows were written, but the %d that are there differ from them: nothing was kept", table, wrote.rows, have.rows)
			}
			done = append(done, Copied{table, wrote.rows})
		}
		return nil
	})
	if err != nil {
		return nil, to.Fail(err, "copy %s to %s", from, to)
	}
	return done, nil
}

// checkAlone returns an error if another instance is connected to the database. It
// retries for a moment, because the server notices late that an instance has stopped.
func (db *DB) checkAlone(ctx context.Context) error {
	if db.dialect.others == "" {
		return nil
	}
	const pause = 50 * time.Millisecond
	for deadline := time.Now().Add(2 * time.Second); ; {
		rows, err := db.read.QueryContext(ctx, db.dialect.others)
		names, err := Collect(rows, err, func(r Scanner) (name string, err error) { return name, r.Scan(&name) })
		switch {
		case err != nil:
			return db.Fail(err, "see who is connected to %s", db)
		case len(names) == 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%s is in use by %s (host/process): stop it first", db, strings.Join(names, ", "))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// beginEmpty locks all tables and checks that they are empty.
func (db *DB) beginEmpty(ctx context.Context, tx *sql.Tx) error {
	tables := db.tables()
	if db.dialect.exclusive != nil {
		for _, statement := range db.dialect.exclusive(tables) {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
	}
	// The rows of the source replace those that the migrations have created.
	for _, p := range db.parts {
		for _, table := range p.Seeded {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table); err != nil { //nolint:gosec // a name of ours
				return err
			}
		}
	}
	for _, table := range tables {
		var n int64
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM `+table+` LIMIT 1) AS found`).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("the target is not empty: table %s has rows: name a new database", table)
		}
	}
	return nil
}

// content summarizes the rows of a table, independent of their order.
type content struct {
	rows int64
	sum  uint64 // of the rows' hashes
}

// copyTable copies the rows of a table in batches, which is faster than one statement
// for each row.
func copyTable(ctx context.Context, from *DB, source, target *sql.Tx, table string) (content, error) {
	const batch = 100
	var columns []string
	var pending []any
	flush := func() error {
		if len(pending) == 0 {
			return nil
		}
		_, err := target.ExecContext(ctx, insertSQL(table, columns, len(pending)/len(columns)), pending...)
		pending = pending[:0]
		return err
	}
	all, err := readTable(ctx, source, table, func(names []string, row []any) error {
		columns = names
		if pending = append(pending, row...); len(pending) < batch*len(columns) {
			return nil
		}
		return flush()
	})
	if err != nil {
		return all, from.dialect.classify(err)
	}
	return all, flush()
}

// insertSQL returns the statement that inserts n rows.
func insertSQL(table string, columns []string, n int) string {
	var out strings.Builder
	fmt.Fprintf(&out, "INSERT INTO %s (%s) VALUES ", table, strings.Join(columns, ", "))
	for i := range n * len(columns) {
		switch {
		case i == 0:
			out.WriteString("(")
		case i%len(columns) == 0:
			out.WriteString("), (")
		default:
			out.WriteString(", ")
		}
		fmt.Fprintf(&out, "$%d", i+1)
	}
	return out.String() + ")"
}

// readTable calls use with every row of a table and returns their summary. use may
// retain the values.
func readTable(ctx context.Context, tx *sql.Tx, table string, use func(columns []string, row []any) error) (all content, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT * FROM `+table) //nolint:gosec // a name of ours
	if err != nil {
		return all, err
	}
	defer rows.Close() // rows.Err says what went wrong
	types, err := rows.ColumnTypes()
	if err != nil {
		return all, err
	}
	columns := make([]string, len(types))
	for i, t := range types {
		columns[i] = t.Name()
	}
	for rows.Next() {
		row := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return all, err
		}
		for i, v := range row {
			row[i] = plain(v, types[i].DatabaseTypeName())
		}
		all.add(row)
		if err := use(columns, row); err != nil {
			return all, err
		}
	}
	return all, rows.Err()
}

// plain returns v as PostgreSQL's driver returns it. SQLite's driver returns an integer
// for a boolean, and nil for an empty blob, which is not NULL.
func plain(v any, columnType string) any {
	switch v := v.(type) {
	case int64:
		if columnType == "BOOLEAN" {
			return v != 0
		}
	case []byte:
		if len(v) == 0 {
			return []byte{}
		}
	}
	return v
}

// add adds a row to the summary.
func (c *content) add(row []any) {
	h := sha256.New()
	for _, v := range row {
		hashValue(h, v)
	}
	c.rows++
	c.sum += binary.BigEndian.Uint64(h.Sum(nil))
}

// hashValue writes a value in a form that differs for different rows. Both drivers
// return bool, int64, string, []byte and nil.
func hashValue(h hash.Hash, v any) {
	text := fmt.Sprint(v)
	switch v := v.(type) {
	case string:
		text = v
	case []byte:
		text = string(v)
	}
	fmt.Fprintf(h, "%T %d %s", v, len(text), text)
}
