package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"path"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migration is what became of a schema.
type Migration struct {
	From    int64    `json:"from"` // version; 0: there was none
	To      int64    `json:"to"`
	Applied []string `json:"applied,omitempty"` // names, in their order
	Copy    string   `json:"copy,omitempty"`    // path of the copy of a SQLite file that was made first
}

// Migrate brings the schema up to date, as Open does, and says what it did.
func Migrate(ctx context.Context, c Config) (Migration, error) {
	s, m, err := open(ctx, c)
	if err != nil {
		return m, err
	}
	return m, s.Close()
}

// migrate brings the schema to the newest version that this program knows. If it
// has an older one, backUp is called first with that version, unless it is nil.
func migrate(ctx context.Context, d goose.Dialect, db *sql.DB, backUp func(version int64) (string, error), opts ...goose.ProviderOption) (m Migration, err error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return m, err
	}
	p, err := goose.NewProvider(d, db, files, append(opts, goose.WithDisableGlobalRegistry(true), goose.WithGoMigrations(goMigrations()...))...)
	if err != nil {
		return m, fmt.Errorf("read migrations: %w", err)
	}
	have, know, err := p.GetVersions(ctx)
	if err != nil {
		return m, fmt.Errorf("read schema version: %w", err)
	}
	m.From = have
	if backUp != nil && 0 < have && have < know {
		if m.Copy, err = backUp(have); err != nil {
			return m, err
		}
	}
	results, err := p.Up(ctx)
	if err != nil {
		return m, fmt.Errorf("migrate schema: %w", err)
	}
	for _, r := range results {
		name := goMigrationNames[r.Source.Version]
		if name == "" {
			name = path.Base(r.Source.Path)
		}
		m.Applied = append(m.Applied, name)
	}
	if have, know, err = p.GetVersions(ctx); err != nil {
		return m, fmt.Errorf("read schema version: %w", err)
	}
	if have > know {
		return m, fmt.Errorf("its schema has version %d, this program knows %d: run the newer program that wrote it, or restore the backup made before the upgrade", have, know)
	}
	m.To = have
	return m, nil
}
