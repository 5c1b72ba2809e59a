package cmd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// clients apply reads the example of docs/clients.md.
func TestClientsFileOfDocs(t *testing.T) {
	page, err := os.ReadFile("../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	example, _, found := strings.Cut(rest, "```")
	file := filepath.Join(t.TempDir(), "clients.yaml")
	if err := os.WriteFile(file, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	clients, err := readClients(file, nil)
	if err != nil || !found || len(clients) != 3 {
		t.Errorf("%d clients, %v", len(clients), err)
	}
}
