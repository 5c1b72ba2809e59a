package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/sqlstore"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// The storage survives a restart, so a nonce cannot be used again after it.
func ExampleNew() {
	dir, err := os.MkdirTemp("", "acmed")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	for range 2 {
		db, err := sqldb.Open(ctx, sqldb.Config{
			Path:  filepath.Join(dir, "acmed.db"), // or URL: "postgres://acmed@db.example.com/acmed"
			Parts: []sqldb.Part{sqlstore.Part()},
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		var storage acmeserver.Storage = sqlstore.New(db)
		err = storage.UseNonce(ctx, "oFvnlFP1wIhRlYS2jTaXbA", time.Unix(4102444800, 0))
		fmt.Println(errors.Is(err, acmeserver.ErrExists))
		if err := db.Close(); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// false
	// true
}
