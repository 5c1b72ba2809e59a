package sqldb_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing/fstest"

	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// A part brings its tables and migrations; its methods use the database that all
// parts share.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "sqldb")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	nonces := sqldb.Part{Name: "nonces", Tables: []string{"nonces"}, Migrations: fstest.MapFS{
		"0001_init.sql": {Data: []byte("-- +goose Up\nCREATE TABLE nonces (nonce TEXT NOT NULL PRIMARY KEY);\n")},
	}}
	ctx := context.Background()
	db, err := sqldb.Open(ctx, sqldb.Config{Path: filepath.Join(dir, "acmeproxy.db"), Parts: []sqldb.Part{nonces}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	err = db.Tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO nonces (nonce) VALUES ($1)`, sqldb.NewID())
		return err
	})
	fmt.Println(db.Fail(err, "store nonce"))
	// Output: <nil>
}
