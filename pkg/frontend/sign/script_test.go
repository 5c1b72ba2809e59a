package sign_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
)

// script does what the scripts for ACMEMS do, with openssl and wget only. KEY is the secret,
// and URL that of the server. The secret in the header of the README is quoted for the shell
// twice, so that openssl gets the text $KEY; the scripts in use write it out.
const script = `set -eu
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 > domain.key
openssl req -new -sha256 -key domain.key -subj "/CN=www.example.org" -addext "subjectAltName=DNS:www.example.org" > domain.csr
sum=$(openssl dgst -sha256 -hmac "$KEY" domain.csr)

# GNU sed puts what openssl calls the hash function in lower case
header=$(echo "$sum" | sed -e 's/HMAC-\(.*\)(.*)= *\(.*\)/Authentication: hmac name=\L\1\E, hash=\2/')
wget -q --post-file=domain.csr --header="$header" "$URL" -O first.pem

# the name of the hash function written out, with and without the comma
header=$(echo "$sum" | sed -e 's/HMAC-\(.*\)(.*)= *\(.*\)/Authentication: hmac name=sha256, hash=\2/')
wget -q --post-file=domain.csr --header="$header" "$URL" -O second.pem
wget -q --post-file=domain.csr --header="$(echo "$header" | tr -d ,)" "$URL" -O third.pem
cmp first.pem second.pem
cmp first.pem third.pem
openssl x509 -in first.pem -noout -pubkey > certified
openssl pkey -in domain.key -pubout | cmp - certified

# wget shows the reason of a refusal
wget --post-file=domain.csr "$URL" -O refused.pem 2>&1 | grep "ERROR 403: Forbidden"
`

// The one-liners of ACMEMS's README work with the openssl of this host (M27, M28), and what
// its example script sends does, too: the same CSR twice gets the same certificate (M56). The
// client needs no account key and nothing but openssl and wget (M57).
func TestScript(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"openssl", "wget", "sed", "cmp"} {
		pebbletest.Tool(t, program)
	}
	ca := startPebble(t, pebbletest.Options{})
	dir := t.TempDir()
	l := newLab(t, ca, fmt.Sprintf("[storage f]\ntype=file\ndirectory=%s\n[auth main]\nip=127.0.0.1\nhmac_type=sha256\nhmac_key=n048 aX$0\ndomain=*.example.org\n",
		filepath.Join(dir, "cache")))
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "KEY=n048 aX$0", "URL="+l.url+"/sign", "LC_ALL=C", "no_proxy=*")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if n := ca.orders(); n != 1 {
		t.Errorf("%d orders", n)
	}
}
