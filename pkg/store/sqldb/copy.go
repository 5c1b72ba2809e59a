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

// Copied is what Copy did with one table.
type Copied struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
}

// Copy brings every row of one database into another, which must be empty, in
// one transaction: the target has all of it or none. Before it ends, all rows
// are read back and compared. No instance may run on either; Copy sees those
// that are connected to PostgreSQL, those on a SQLite file are the caller's to
// keep away.
func Copy(ctx context.Context, from, to *DB) ([]Copied, error) {
	if !slices.Equal(from.tables(), to.tables()) {
		return nil, fmt.Errorf("copy %s to %s: they have different tables; open both with the same parts", from, to)
	}
	for _, db := range []*DB{from, to} {
		if err := db.alone(ctx); err != nil {
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

// alone refuses a database that another instance is connected to. One that has
// just been stopped is given a moment: the server notices a little later.
func (db *DB) alone(ctx context.Context) error {
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

// beginEmpty keeps everyone else out and makes sure that nothing is there.
func (db *DB) beginEmpty(ctx context.Context, tx *sql.Tx) error {
	tables := db.tables()
	if db.dialect.exclusive != nil {
		for _, statement := range db.dialect.exclusive(tables) {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
	}
	// What a new database says of itself gives way to what the old one says.
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

// content tells what rows a table has, in whatever order they are read.
type content struct {
	rows int64
	sum  uint64 // of the rows' hashes
}

// copyTable writes rows in batches: a statement for each would take its time.
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

// insertSQL takes n rows at once.
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

// readTable gives every row to use, which may keep the values, and returns what
// there was.
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

// plain is v as PostgreSQL's driver has it. SQLite's returns an integer for a
// boolean, and for an empty blob nil, which is not NULL.
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

// add takes a row into account.
func (c *content) add(row []any) {
	h := sha256.New()
	for _, v := range row {
		hashValue(h, v)
	}
	c.rows++
	c.sum += binary.BigEndian.Uint64(h.Sum(nil))
}

// hashValue writes a value so that no two rows look alike. What both drivers
// return is bool, int64, string, []byte and nil.
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
