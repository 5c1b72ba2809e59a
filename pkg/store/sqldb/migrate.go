package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"path"
	"slices"

	"github.com/pressly/goose/v3"
)

// Migration describes a change of the schema. Its versions are those of the first part.
type Migration struct {
	From    int64    `json:"from"` // version; 0: there was none
	To      int64    `json:"to"`
	Applied []string `json:"applied,omitempty"` // names, in their order; those of further parts begin with the part
	Copy    string   `json:"copy,omitempty"`    // path of the copy of a SQLite file that was made first
}

// migrator brings one part to the newest version that this program knows.
type migrator struct {
	Part
	provider   *goose.Provider
	have, know int64
}

// newMigrator returns a migrator after it has read the part's version.
func newMigrator(ctx context.Context, d goose.Dialect, db *sql.DB, p Part, opts ...goose.ProviderOption) (*migrator, error) {
	steps := make([]*goose.Migration, 0, len(p.Steps))
	for _, s := range p.Steps {
		steps = append(steps, goose.NewGoMigration(s.Version, &goose.GoFunc{RunTx: s.Run}, nil))
	}
	provider, err := goose.NewProvider(d, db, p.Migrations, append(slices.Clone(opts), goose.WithTableName(p.versionTable()),
		goose.WithDisableGlobalRegistry(true), goose.WithGoMigrations(steps...))...)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	m := &migrator{Part: p, provider: provider}
	return m, m.read(ctx)
}

func (m *migrator) read(ctx context.Context) (err error) {
	if m.have, m.know, err = m.provider.GetVersions(ctx); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if m.have > m.know {
		return fmt.Errorf("its schema has version %d, this program knows %d: run the newer program that wrote it, or restore the backup made before the upgrade",
			m.have, m.know)
	}
	return nil
}

// up applies the pending migrations and returns their names.
func (m *migrator) up(ctx context.Context) (names []string, err error) {
	results, err := m.provider.Up(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate schema: %w", err)
	}
	for _, r := range results {
		names = append(names, m.nameOf(r.Source))
	}
	return names, m.read(ctx)
}

func (m *migrator) nameOf(s *goose.Source) string {
	for _, step := range m.Steps {
		if step.Version == s.Version {
			return step.Name
		}
	}
	return path.Base(s.Path)
}

// migrate brings all parts to the newest versions that this program knows. If the
// first part has an older version, or another part that is not new does, it calls
// backUp first, with the first part's version. backUp may be nil.
func migrate(ctx context.Context, d goose.Dialect, db *sql.DB, parts []Part, backUp func(version int64) (string, error), opts ...goose.ProviderOption) (done Migration, err error) {
	var all []*migrator
	pending := false
	for _, p := range parts {
		m, err := newMigrator(ctx, d, db, p, opts...)
		if err != nil {
			return done, err
		}
		all = append(all, m)
		pending = pending || m.have < m.know
	}
	done.From = all[0].have
	if backUp != nil && pending && done.From > 0 {
		if done.Copy, err = backUp(done.From); err != nil {
			return done, err
		}
	}
	for i, m := range all {
		names, err := m.up(ctx)
		if err != nil {
			return done, err
		}
		for _, name := range names {
			if i > 0 {
				name = m.Name + "/" + name
			}
			done.Applied = append(done.Applied, name)
		}
	}
	done.To = all[0].have
	return done, nil
}
