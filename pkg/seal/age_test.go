package seal_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

func run(t *testing.T, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	return out
}

// The stock programs open what Seal made, and Open what they made: a client
// needs nothing of ours (A10, X8).
func TestStockAge(t *testing.T) {
	age, keygen := pebbletest.Tool(t, "age"), pebbletest.Tool(t, "age-keygen")
	dir := t.TempDir()
	ageKey := filepath.Join(dir, "age.txt")
	run(t, nil, keygen, "-o", ageKey)
	keys := map[string]string{ageKey: string(bytes.TrimSpace(run(t, nil, keygen, "-y", ageKey)))}
	if sshKeygen, err := exec.LookPath("ssh-keygen"); err == nil {
		for _, kind := range []string{"ed25519", "rsa"} {
			path := filepath.Join(dir, "ssh_host_"+kind+"_key")
			run(t, nil, sshKeygen, "-q", "-t", kind, "-N", "", "-f", path)
			line, err := os.ReadFile(path + ".pub")
			if err != nil {
				t.Fatal(err)
			}
			keys[path] = string(bytes.TrimSpace(line))
		}
	} else {
		for name, p := range map[string]keyPair{"ed25519": sshEd25519(t), "rsa": sshRSA(t)} {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, p.private, 0o600); err != nil {
				t.Fatal(err)
			}
			keys[path] = p.public
		}
	}
	var lines []string
	for _, line := range keys {
		lines = append(lines, line)
	}
	recipients, err := seal.ParseRecipients(lines)
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, err := seal.Seal(secret, recipients...)
	if err != nil {
		t.Fatal(err)
	}
	for path, line := range keys {
		name := filepath.Base(path)
		if got := run(t, ciphertext, age, "-d", "-i", path); !bytes.Equal(got, secret) {
			t.Errorf("%s: age opened %q", name, got)
		}
		private, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"-r", line}, {"-a", "-r", line}} {
			made := run(t, secret, age, args...)
			if got, err := open(t, made, keyPair{line, private}); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%s, age %s: %q, %v", name, args[0], got, err)
			}
		}
	}
}

// age-keygen reads the identity file that we make.
func TestStockAgeReadsOurIdentity(t *testing.T) {
	keygen := pebbletest.Tool(t, "age-keygen")
	path := filepath.Join(t.TempDir(), "identity")
	id, err := seal.LoadOrCreateIdentity(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(bytes.TrimSpace(run(t, nil, keygen, "-y", path))); got != id.Recipient().String() {
		t.Errorf("age-keygen -y: %s, want %s", got, id.Recipient())
	}
}
