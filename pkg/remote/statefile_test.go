package remote

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// State files of earlier versions are read, and written back without a change.
// --json prints the same fields.
func TestStateFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/state/*.json")
	if err != nil || len(files) != 3 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, name := range files {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		k, err := parseKept(want, filepath.Join(t.TempDir(), "certificates", "k.json"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := k.save(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(k.path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is written as\n%s\n%v", name, got, err)
		}
		printed, err := json.MarshalIndent(k.Report(), "", "  ")
		if err != nil || !bytes.Equal(append(printed, '\n'), want) {
			t.Errorf("%s is printed as\n%s\n%v", name, printed, err)
		}
	}
}

// What revoke prints has the names that scripts know.
func TestRevokedReport(t *testing.T) {
	t.Parallel()
	r := &Revoked{Names: cert.Names{"a.example.com"}, Mode: clients.ModeAgent, Serial: "01", Reason: cert.KeyCompromise}
	for want, certificate := range map[string]*Kept{
		`{"names":["a.example.com"],"mode":"agent","revoked":"01","reason":"keyCompromise"}`:                                                                             nil,
		`{"names":["a.example.com"],"mode":"agent","revoked":"01","reason":"keyCompromise","certificate":{"names":null,"mode":"","key_type":"","out":"","serial":"02"}}`: {Serial: "02"},
	} {
		r.Certificate = certificate
		if got, err := json.Marshal(r.Report()); err != nil || string(got) != want {
			t.Errorf("%s, %v\nwant %s", got, err, want)
		}
	}
}
