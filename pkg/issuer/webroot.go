package issuer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// webroot answers HTTP-01 by files that somebody else's web server serves.
type webroot struct {
	dir    string // where the tokens go
	needed holders
}

// newWebroot makes the folder of the tokens and sees whether it can be written.
func newWebroot(root string) (*webroot, error) {
	const remedy = "name the folder from which the web server serves files, writable for this process"
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("http-01-webroot: %w; %s", err, remedy)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("http-01-webroot: %s is not a folder; %s", root, remedy)
	}
	dir := root
	for _, part := range []string{".well-known", "acme-challenge"} { // RFC 8555, section 8.3
		dir = filepath.Join(dir, part)
		if err := makeReadable(dir); err != nil {
			return nil, fmt.Errorf("http-01-webroot: %w; %s", err, remedy)
		}
	}
	probe, err := os.CreateTemp(dir, ".acmeproxy-")
	if err != nil {
		return nil, fmt.Errorf("http-01-webroot: %w; %s", err, remedy)
	}
	probe.Close()
	return &webroot{dir: dir}, os.Remove(probe.Name())
}

// makeReadable makes a folder that the web server can read, whatever the umask
// is. One that is there stays as it is.
func makeReadable(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

func (w *webroot) present(_ context.Context, c challenge) (reply, error) {
	if !isToken(c.token) {
		return nil, errors.New("the CA's token is not base64url, so no file is written")
	}
	a := &tokenFile{webroot: w, challenge: c, path: filepath.Join(w.dir, c.token)}
	w.needed.hold(c)
	// The umask must not hide it from the web server.
	if err := renameio.WriteFile(a.path, []byte(c.keyAuthorization), 0o644, renameio.IgnoreUmask()); err != nil {
		a.Remove()
		return nil, fmt.Errorf("http-01-webroot: %w", err)
	}
	return a, nil
}

func (*webroot) exclusive(challenge) (string, time.Duration) { return "", 0 }

// isToken holds what a CA sends against RFC 8555, section 8.3: it becomes the
// name of a file.
func isToken(s string) bool {
	const base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return s != "" && len(s) <= 255 && strings.Trim(s, base64url) == ""
}

// tokenFile is a published answer.
type tokenFile struct {
	webroot   *webroot
	challenge challenge
	path      string
}

// Fetched is not known: the web server does not tell.
func (*tokenFile) Fetched() <-chan struct{} { return nil }

// Remove may find that somebody else was faster; a file that stays does no harm.
func (f *tokenFile) Remove() {
	if f.webroot.needed.drop(f.challenge) {
		_ = os.Remove(f.path)
	}
}
