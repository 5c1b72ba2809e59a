package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
)

// Part owns tables, such as the proxy's store or the storage of an ACME server. Its
// schema has separate versions: 1, 2, 3 and so on.
type Part struct {
	// Name is lower-case letters, unique in a database.
	Name string
	// VersionTable is the table of applied versions. If empty, it is Name + "_version".
	VersionTable string
	// Migrations has one file for each version, such as 0001_init.sql, in goose's
	// format: the statements follow a line "-- +goose Up".
	Migrations fs.FS
	// Steps are the migrations that SQL alone cannot express.
	Steps []Step
	// Tables names all tables that the part owns, referenced tables first.
	Tables []string
	// Seeded names the tables that the migrations fill. Copy replaces their rows.
	Seeded []string
	// Fleeting names the tables whose rows must not outlive their purpose, since they
	// hold keys. The copy of a SQLite file before a migration has none of these rows.
	Fleeting []string
}

// Step is a migration in Go.
type Step struct {
	Version int64
	Name    string // as a file's name, without the extension .sql
	Run     func(ctx context.Context, tx *sql.Tx) error
}

func (p Part) versionTable() string {
	if p.VersionTable != "" {
		return p.VersionTable
	}
	return p.Name + "_version"
}

var partName = regexp.MustCompile(`^[a-z]+$`)

// checkParts reports every fault of the parts, whose names become parts of statements.
func checkParts(parts []Part) error {
	if len(parts) == 0 {
		return errors.New("parts: missing; give at least one")
	}
	var faults []error
	names, tables := map[string]bool{}, map[string]bool{}
	for _, p := range parts {
		if !partName.MatchString(p.Name) || names[p.Name] {
			faults = append(faults, fmt.Errorf("part %q: the name is taken or is not lower-case letters; use another", p.Name))
		}
		names[p.Name] = true
		for _, table := range append([]string{p.versionTable()}, p.Tables...) {
			if tables[table] {
				faults = append(faults, fmt.Errorf("part %q: table %s belongs to another part; use another name", p.Name, table))
			}
			tables[table] = true
		}
		for _, table := range slices.Concat(p.Seeded, p.Fleeting) {
			if !slices.Contains(p.Tables, table) {
				faults = append(faults, fmt.Errorf("part %q: table %s is not among its tables; add it", p.Name, table))
			}
		}
	}
	return errors.Join(faults...)
}

// tables returns the tables of all parts, referenced tables first.
func (db *DB) tables() (all []string) {
	for _, p := range db.parts {
		all = append(all, p.Tables...)
	}
	return all
}
