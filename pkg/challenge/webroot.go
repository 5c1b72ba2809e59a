package challenge

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// webroot answers HTTP-01 by files that a web server serves. Its folder often belongs
// to another user, and deployments replace it. So it is opened again for each answer,
// and recreated if it is missing. A link below it could lead anywhere, so it is refused
// unless only a trusted user can have created it.
type webroot struct {
	root   string
	needed *Holders
	mu     sync.Mutex
	// searched is the time of the last search for leftovers; guarded by mu.
	searched time.Time
}

// challengeFolder is the path of the tokens (RFC 8555, section 8.3).
var challengeFolder = []string{".well-known", "acme-challenge"}

// FromWebroot returns a solver for HTTP-01 that writes its answers to files below
// root, which another program serves. It creates the folder of the tokens and
// checks that it can be written. places may be nil if no other solver uses root.
func FromWebroot(root string, places *Places) (Solver, error) {
	w, err := newWebroot(root, places)
	if err != nil {
		return nil, err
	}
	return w, nil
}

func newWebroot(root string, places *Places) (*webroot, error) {
	const remedy = "name the folder from which the web server serves files, writable for this process"
	w := &webroot{root: root, needed: places.Holders(placeOf(root))}
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("http-01-webroot: %w; %s", err, remedy)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("http-01-webroot: %s is not a folder; %s", root, remedy)
	}
	dir, err := w.open(true)
	if err != nil {
		return nil, fmt.Errorf("http-01-webroot: %w; %s", err, remedy)
	}
	defer dir.Close()
	probe := newFile()
	if err := write(dir, probe, nil); err != nil {
		return nil, fmt.Errorf("http-01-webroot: %w; %s", err, remedy)
	}
	return w, dir.Remove(probe)
}

// placeOf returns one name for all spellings of a folder.
func placeOf(root string) string {
	if target, err := filepath.EvalSymlinks(root); err == nil {
		root = target
	}
	if full, err := filepath.Abs(root); err == nil {
		root = full
	}
	return "webroot " + root
}

// open opens the folder of the tokens. If create is set, it creates missing folders.
func (w *webroot) open(create bool) (*os.Root, error) {
	if create {
		if err := w.recreate(); err != nil {
			return nil, err
		}
	}
	dir, err := localfile.OpenRoot(w.root)
	if err != nil {
		return nil, err
	}
	for _, part := range challengeFolder {
		if create {
			err = localfile.MakeDir(dir, part)
		}
		var next *os.Root
		if err == nil {
			next, err = enter(dir, part)
		}
		dir.Close()
		if err != nil {
			return nil, err
		}
		dir = next
	}
	return dir, nil
}

// recreate creates the webroot if a deployment removed it. It ignores the umask,
// because the web server must be able to enter the folders.
func (w *webroot) recreate() error {
	var missing []string
	for path := filepath.Clean(w.root); ; path = filepath.Dir(path) {
		_, err := os.Stat(path)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		missing = append(missing, path)
	}
	for _, path := range slices.Backward(missing) {
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := os.Chmod(path, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// enter opens a folder directly below dir. It follows a link of a trusted user,
// because some administrators have one folder for the tokens of all sites.
func enter(dir *os.Root, name string) (*os.Root, error) {
	link, err := dir.Lstat(name)
	if err != nil || link.Mode()&fs.ModeSymlink == 0 {
		return localfile.OpenDir(dir, name)
	}
	folder, err := dir.Stat(".")
	if err != nil || !localfile.IsTrustedIn(dir, name) || !localfile.IsTrustedIn(dir, ".") || folder.Mode().Perm()&0o022 != 0 {
		return localfile.OpenDir(dir, name) // which refuses it
	}
	return localfile.OpenFolder(filepath.Join(dir.Name(), name))
}

// newFile returns a name that no token has.
func newFile() string { return ".acmeproxy-" + rand.Text() }

// write creates a file that the web server can read.
func write(dir *os.Root, name string, data []byte) error {
	f, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil { // the umask must not hide it
		return errors.Join(err, dir.Remove(name))
	}
	return nil
}

// Present implements Solver.
func (w *webroot) Present(_ context.Context, c Challenge) (Answer, error) {
	if !IsToken(c.Token) {
		return nil, errors.New("the CA's token is not base64url, so no file is written")
	}
	a := &tokenFile{webroot: w, challenge: c}
	w.needed.Hold(c)
	if err := w.publish(c); err != nil {
		a.Remove()
		return nil, fmt.Errorf("http-01-webroot: %w", err)
	}
	return a, nil
}

// publish writes the file of a token atomically.
func (w *webroot) publish(c Challenge) error {
	dir, err := w.open(true)
	if err != nil {
		return err
	}
	defer dir.Close()
	aside := newFile()
	if err := write(dir, aside, []byte(c.KeyAuthorization)); err != nil {
		return err
	}
	if err := dir.Rename(aside, c.Token); err != nil {
		return errors.Join(err, dir.Remove(aside))
	}
	w.removeLeftovers(dir, c)
	return nil
}

// Exclusive implements Solver.
func (*webroot) Exclusive(Challenge) (string, time.Duration) { return "", 0 }

// Close implements Solver.
func (*webroot) Close() error { return nil }

// tokenFile is a published answer.
type tokenFile struct {
	webroot   *webroot
	challenge Challenge
}

// Fetched returns nil: only the web server knows.
func (*tokenFile) Fetched() <-chan struct{} { return nil }

// Remove ignores errors: the file may be gone, and one that stays does no harm.
func (f *tokenFile) Remove() {
	if !f.webroot.needed.Drop(f.challenge) {
		return
	}
	if dir, err := f.webroot.open(false); err == nil {
		defer dir.Close()
		_ = dir.Remove(f.challenge.Token)
	}
}
