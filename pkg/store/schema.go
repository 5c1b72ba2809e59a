package store

import (
	"embed"
	"io/fs"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Part returns the tables and migrations of the proxy itself.
func Part() sqldb.Part {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	return sqldb.Part{
		Name: "core", VersionTable: "goose_db_version", // goose's default, from when the store was one part
		Migrations: files,
		Steps:      []sqldb.Step{{Version: 3, Name: "0003_recipients", Run: migrateRecipients}},
		Tables: slices.Concat(accountTables, secretTables, clientTables, credentialTables, certificateTables,
			deploymentTables, auditTables, quotaTables),
		Seeded:   []string{"facts"},
		Fleeting: []string{"orders"},
	}
}

// The tables of each part of the store, referenced tables first.
var (
	accountTables     = []string{"accounts"}
	secretTables      = []string{"secrets"}
	clientTables      = []string{"clients", "grants"}
	credentialTables  = []string{"credentials"}
	certificateTables = []string{"name_owners", "managed", "managed_names", "bundles", "orders", "pauses", "wanted_revocations"}
	deploymentTables  = []string{"hooks_pending"}
	auditTables       = []string{"audit", "counters"}
	quotaTables       = []string{"limits", "facts"}
)
