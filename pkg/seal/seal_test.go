package seal_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
	"golang.org/x/crypto/ssh"

	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

var secret = []byte("-----BEGIN PRIVATE KEY-----\nnot really\n-----END PRIVATE KEY-----\n")

// keyPair is what a client has: the line it gives away and the file it keeps.
type keyPair struct {
	public  string
	private []byte
}

func x25519(t testing.TB) keyPair {
	t.Helper()
	id, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return keyPair{id.Recipient().String(), []byte(id.String() + "\n")}
}

// sshPair is an SSH key without a passphrase, as ssh-keygen writes it.
func sshPair(t testing.TB, public, private any) keyPair {
	t.Helper()
	p, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "root@web1")
	if err != nil {
		t.Fatal(err)
	}
	return keyPair{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(p))), pem.EncodeToMemory(block)}
}

func sshEd25519(t testing.TB) keyPair {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return sshPair(t, public, private)
}

var rsa2048 = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func sshRSA(t testing.TB) keyPair {
	t.Helper()
	key, err := rsa2048()
	if err != nil {
		t.Fatal(err)
	}
	return sshPair(t, &key.PublicKey, key)
}

// sealTo seals the secret.
func sealTo(t testing.TB, pairs ...keyPair) []byte {
	t.Helper()
	var lines []string
	for _, p := range pairs {
		lines = append(lines, p.public)
	}
	recipients, err := seal.ParseRecipients(lines)
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, err := seal.Seal(secret, recipients...)
	if err != nil {
		t.Fatal(err)
	}
	return ciphertext
}

func open(t testing.TB, ciphertext []byte, p keyPair) ([]byte, error) {
	t.Helper()
	ids, err := seal.ParseIdentities(p.private)
	if err != nil {
		t.Fatal(err)
	}
	return seal.Open(ciphertext, ids...)
}

// Each recipient, of any kind, opens with its own identity, and no other identity can
// (A10, X8, X9).
func TestRoundTrip(t *testing.T) {
	pairs := map[string]keyPair{"X25519": x25519(t), "ssh-ed25519": sshEd25519(t), "ssh-rsa": sshRSA(t)}
	var all []keyPair
	for kind, p := range pairs {
		all = append(all, p)
		ciphertext := sealTo(t, p)
		if bytes.Contains(ciphertext, []byte("PRIVATE")) {
			t.Errorf("%s: the ciphertext holds plaintext", kind)
		}
		if got, err := open(t, ciphertext, p); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%s: %q, %v", kind, got, err)
		}
		for _, stranger := range []keyPair{x25519(t), sshEd25519(t)} {
			if got, err := open(t, ciphertext, stranger); !errors.Is(err, seal.ErrNotForUs) {
				t.Errorf("%s, opened by a stranger: %q, %v; want ErrNotForUs", kind, got, err)
			}
		}
	}
	for range 10 {
		all = append(all, x25519(t))
	}
	ciphertext := sealTo(t, all...)
	for i, p := range all {
		if got, err := open(t, ciphertext, p); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("recipient %d of %d: %q, %v", i+1, len(all), got, err)
		}
	}
}

func TestOpenArmored(t *testing.T) {
	p := x25519(t)
	var text bytes.Buffer
	w := armor.NewWriter(&text)
	if _, err := w.Write(sealTo(t, p)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := open(t, text.Bytes(), p); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("%q, %v", got, err)
	}
}

// Damage never opens, wherever it is.
func TestOpenRefusesDamage(t *testing.T) {
	p := x25519(t)
	ids, err := seal.ParseIdentities(p.private)
	if err != nil {
		t.Fatal(err)
	}
	ciphertext := sealTo(t, p)
	for i := range ciphertext {
		if got, err := seal.Open(ciphertext[:i], ids...); err == nil || got != nil {
			t.Fatalf("cut to %d bytes: %q, %v", i, got, err)
		}
		flipped := bytes.Clone(ciphertext)
		flipped[i] ^= 1
		if got, err := seal.Open(flipped, ids...); err == nil || got != nil {
			t.Fatalf("byte %d flipped: %q, %v", i, got, err)
		}
	}
	if got, err := open(t, append(bytes.Clone(ciphertext), 0), p); err == nil {
		t.Errorf("trailing byte: %q", got)
	}
	if _, err := open(t, ciphertext[:len(ciphertext)-1], p); errors.Is(err, seal.ErrNotForUs) {
		t.Error("a truncated ciphertext counts as another's")
	}
	if got, err := seal.Open(ciphertext); err == nil {
		t.Errorf("opened without identity: %q", got)
	}
}

func TestSizeLimits(t *testing.T) {
	p := x25519(t)
	recipients, err := seal.ParseRecipients([]string{p.public})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, make([]byte, seal.MaxSealed+1), p); err == nil || !strings.Contains(err.Error(), "limit of 1048576") {
		t.Errorf("too long: %v", err)
	}
	// What Seal makes, Open reads: the largest plaintext is the same for both.
	largest := seal.MaxSealed - 1024
	for step := 512; step > 0; step /= 2 {
		if _, err := seal.Seal(make([]byte, largest+step), recipients...); err == nil {
			largest += step
		}
	}
	ciphertext, err := seal.Seal(make([]byte, largest), recipients...)
	if err != nil || largest == seal.MaxSealed-1024 {
		t.Fatalf("largest %d: %v", largest, err)
	}
	if got, err := open(t, ciphertext, p); err != nil || len(got) != largest {
		t.Errorf("%d bytes, %v; want %d", len(got), err, largest)
	}
	if _, err := seal.Seal(make([]byte, largest+1), recipients...); err == nil || !strings.Contains(err.Error(), "limit of 1048576") {
		t.Errorf("one byte more: %v", err)
	}
	if got, err := seal.Seal(secret); err == nil {
		t.Errorf("sealed without a recipient: %q", got)
	}
	if ciphertext, err := seal.Seal(nil, recipients...); err != nil {
		t.Error(err)
	} else if got, err := open(t, ciphertext, p); err != nil || len(got) != 0 {
		t.Errorf("nothing sealed, opened %q, %v", got, err)
	}
}

func TestParseRecipientsRefuses(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x, host := x25519(t), sshEd25519(t)
	identityPoint := make([]byte, ed25519.PublicKeySize)
	identityPoint[0] = 1
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ line, want string }{
		"empty":             {"", "not a recipient"},
		"word":              {"hello", "not a recipient"},
		"damaged":           {x.public[:len(x.public)-1] + "!", "not an X25519 recipient"},
		"cut off":           {x.public[:40], "not an X25519 recipient"},
		"plugin":            {"age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t", "not an X25519 recipient"},
		"post-quantum":      {hybrid.Recipient().String(), "not an X25519 recipient"},
		"low order":         {"age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z", "nothing can be encrypted"},
		"SSH low order":     {"ssh-ed25519 " + base64.StdEncoding.EncodeToString(wire("ssh-ed25519", identityPoint)), "nothing can be encrypted"},
		"SSH cut off":       {host.public[:40], "not an SSH public key"},
		"SSH short RSA":     {sshPair(t, &key.PublicKey, key).public, "2048 bits or more"},
		"SSH other kind":    {"ssh-dss AAAA", "not an SSH public key"},
		"SSH ECDSA":         {sshPair(t, &ec.PublicKey, ec).public, "not a recipient"},
		"SSH options":       {"ssh-rsa " + host.public, "not an SSH public key"},
		"SSH file options":  {`command="true" ` + host.public, "not a recipient"},
		"two lines":         {host.public + "\n" + host.public, "more than one line"},
		"too long":          {host.public + " " + strings.Repeat("x", 4096), "too long"},
		"secret key":        {string(bytes.TrimSpace(x.private)), "keep it to yourself"},
		"secret key, small": {strings.ToLower(string(bytes.TrimSpace(x.private))), "keep it to yourself"},
		"SSH secret key":    {string(host.private), "more than one line"},
		"SSH key, folded":   {strings.ReplaceAll(string(host.private), "\n", " "), "not a recipient"},
	} {
		got, err := seal.ParseRecipients([]string{c.line})
		if err == nil || len(got) > 0 || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "recipient 1: ") {
			t.Errorf("%s: %v, %v; want an error with %q", name, got, err, c.want)
			continue
		}
		for _, part := range strings.Fields(c.line) {
			if len(part) > 12 && strings.Contains(err.Error(), part[:12]) && part != "ssh-ed25519" {
				t.Errorf("%s: the error quotes the line: %v", name, err)
			}
		}
	}
}

// wire encodes strings as SSH does (RFC 4251, section 5).
func wire(name string, key []byte) []byte {
	return ssh.Marshal(struct {
		Name string
		Key  []byte
	}{name, key})
}

func TestParseRecipients(t *testing.T) {
	x, host := x25519(t), sshEd25519(t)
	got, err := seal.ParseRecipients([]string{" " + x.public + "\n", host.public + " root@web1 with a comment"})
	if err != nil || len(got) != 2 {
		t.Errorf("%v, %v; want two", got, err)
	}
	// Every fault is reported, each with its position.
	_, err = seal.ParseRecipients([]string{"bad", x.public, "worse"})
	if err == nil || !strings.Contains(err.Error(), "recipient 1:") || strings.Contains(err.Error(), "recipient 2:") || !strings.Contains(err.Error(), "recipient 3:") {
		t.Errorf("%v, want faults of 1 and 3", err)
	}
	many := make([]string, seal.MaxRecipients+1)
	for i := range many {
		many[i] = x.public
	}
	if got, err := seal.ParseRecipients(many[1:]); err != nil || len(got) != seal.MaxRecipients {
		t.Errorf("%d recipients: %v", len(got), err)
	}
	if _, err := seal.ParseRecipients(many); err == nil || !strings.Contains(err.Error(), "limit is 64") {
		t.Errorf("65 recipients: %v", err)
	}
}

func FuzzParseRecipients(f *testing.F) {
	for _, s := range []string{
		"", x25519(f).public, sshEd25519(f).public, sshRSA(f).public, string(x25519(f).private),
		"ssh-ed25519 AAAA", "ssh-rsa " + sshEd25519(f).public, "age1", "AGE-SECRET-KEY-1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got, err := seal.ParseRecipients([]string{line})
		if (err == nil) != (len(got) == 1) {
			t.Fatalf("%d recipients, %v", len(got), err)
		}
		if err != nil {
			if len(line) > 24 && strings.Contains(err.Error(), line) {
				t.Errorf("the error quotes the line: %v", err)
			}
			return
		}
		if _, err := seal.Seal(secret, got...); err != nil {
			t.Errorf("an accepted recipient cannot be sealed to: %v", err)
		}
	})
}
