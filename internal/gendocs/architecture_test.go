package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// qualified is a declaration or a method as the pages name it: `package.Name`.
var qualified = regexp.MustCompile("`([a-z][a-z0-9]*)\\.([A-Za-z]+)`")

// The functions and types that docs/architecture.md and the records of decisions
// name exist, so that a reader can follow them.
func TestPathsOfArchitecture(t *testing.T) {
	declared := declarations(t)
	records, err := filepath.Glob(top + "/docs/adr/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range append(records, top+"/docs/architecture.md") {
		name, err := filepath.Rel(top, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range qualified.FindAllStringSubmatch(read(t, name), -1) {
			names := declared[match[1]]
			if names == nil || match[2] == "go" { // another library's, or a file
				continue
			}
			found++
			if !names[match[2]] {
				t.Errorf("%s: package %s declares no %s", name, match[1], match[2])
			}
		}
	}
	if found < 50 {
		t.Errorf("the pages name %d functions and types; the test looks for them in the wrong way", found)
	}
}

// declarations returns the names of each of our packages: what it declares, and the
// methods and fields of that.
func declarations(t *testing.T) map[string]map[string]bool {
	t.Helper()
	all := map[string]map[string]bool{}
	for _, root := range []string{top + "/pkg", top + "/cmd"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			names := all[file.Name.Name]
			if names == nil {
				names = map[string]bool{}
				all[file.Name.Name] = names
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					names[n.Name.Name] = true
					return false
				case *ast.TypeSpec:
					names[n.Name.Name] = true
				case *ast.ValueSpec:
					for _, name := range n.Names {
						names[name.Name] = true
					}
				case *ast.Field:
					for _, name := range n.Names {
						names[name.Name] = true
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}
