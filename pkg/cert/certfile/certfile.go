// Package certfile stores a bundle in a folder under certbot's file names:
// cert.pem, chain.pem, fullchain.pem and privkey.pem. A Layout can add haproxy.pem
// and bundle.p12.
//
//	err := certfile.Write(ctx, "/etc/ssl/web1", bundle)
//	err := certfile.Layout{Formats: []string{"haproxy"}, Owner: "haproxy"}.Write(ctx, "/etc/ssl/web1", bundle)
//
// All files change at once. They are symbolic links through one link,
// .acmeproxy/current, which is replaced by a rename. The disk has either the old
// set or the new one, also after a crash. So does a reader that resolves
// .acmeproxy/current once. A reader that opens two of the names may see the swap
// happen in between; the hook that makes it reload runs afterwards. Files with the
// key have mode 0600 or the layout's, whatever the umask.
//
// Windows does not let every user create links. There the files are copies, which are
// replaced one by one, the key first. Read and Finish use the complete set in
// .acmeproxy after a crash in between.
//
// The folder may belong to another user, such as a service's. That user can replace
// the set, but cannot make root write or remove anything elsewhere.
package certfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// File names of a set.
const (
	Cert      = "cert.pem"
	Chain     = "chain.pem"
	Fullchain = "fullchain.pem"
	Key       = "privkey.pem"
	HAProxy   = "haproxy.pem" // full chain and key, for its crt keyword
	PKCS12    = "bundle.p12"  // key and full chain, encrypted with a password (RFC 7292)
)

const (
	versions = ".acmeproxy" // in the set's folder
	current  = "current"    // in versions, a link to the version in use
	lockName = "lock"       // in versions, held while a set is written
)

// Write installs the bundle in the zero Layout.
func Write(ctx context.Context, dir string, b *cert.Bundle) error {
	return Layout{}.Write(ctx, dir, b)
}

// Write installs the bundle in dir, which is created (mode 0755) if necessary. The
// previous set stays until the new one is complete. Regular files and links of the
// set's names are replaced, never written through. A folder of such a name is an
// error that changes nothing. Several processes may write at a time; the last one
// wins. Waiting for another process ends with ctx. A bundle without a key is an
// error, because no server could use the set.
func (l Layout) Write(ctx context.Context, dir string, b *cert.Bundle) error {
	return l.WriteAs(ctx, dir, b, Claim{})
}

// WriteAs works like Write, but for an owner: it stores the owner with the set, and
// changes nothing if [Layout.Claimable] returns an error.
func (l Layout) WriteAs(ctx context.Context, dir string, b *cert.Bundle, c Claim) error {
	return l.writeAs(ctx, dir, b, c, systemReplaces)
}

func (l Layout) writeAs(ctx context.Context, dir string, b *cert.Bundle, c Claim, how replacement) error {
	as, err := l.resolve()
	if err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	as.replaces = how
	set, err := as.files(b)
	if err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	f, err := openFolder(ctx, filepath.Clean(dir))
	if err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	defer f.close()
	if err := vacant(f.out, namesOf(set)); err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	if err := c.check(f.out, namesOf(set)); err != nil {
		return err
	}
	previous := f.inUse()
	v, err := f.stage(as, set, b.Leaf.NotBefore.UTC().Format(versionTime))
	if err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	defer v.Close()
	if err := f.claim(c, namesOf(set)); err != nil {
		return errors.Join(fmt.Errorf("write the certificate: %w", err), v.remove())
	}
	if err := f.publish(as, v, previous, set); err != nil {
		return fmt.Errorf("publish the certificate: %w", err)
	}
	if err := f.prune(v.name, previous); err != nil {
		return fmt.Errorf("remove old certificates: %w", err)
	}
	return nil
}

// writeFile creates a file and syncs it before it returns.
func (r resolved) writeFile(dir *os.Root, f file) error {
	out, err := dir.OpenFile(f.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if r.uid >= 0 || r.gid >= 0 {
		if err := chown(out, r.uid, r.gid); err != nil {
			return fmt.Errorf("owner: %w; run acmeproxy as root, or take a group that it is a member of", err)
		}
	}
	if err := localfile.SetMode(out, f.mode); err != nil { // whatever the umask
		return err
	}
	if _, err := out.Write(f.data); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return out.Close()
}

// readRounds is the number of times that Read reads a set that changes meanwhile.
// Writing a set takes longer than reading it. The limit is needed because the owner
// of the folder may replace links all the time.
const readRounds = 10

// Read loads the set in dir through its PEM names. It never mixes two sets.
// fs.ErrNotExist means that a file is missing. Any other error means that the files
// do not match, or kept changing.
func Read(dir string) (*cert.Bundle, error) {
	for range readRounds {
		before := inUse(dir)
		b, err := read(dir)
		if complete, ok := unfinished(dir); err != nil && ok {
			if whole, wrong := read(complete); wrong == nil {
				b, err = whole, nil // Holds finds the files that differ
			}
		}
		if inUse(dir) != before {
			continue // the set was swapped while it was read
		}
		if err != nil {
			return nil, fmt.Errorf("read the certificate in %s: %w", dir, err)
		}
		return b, nil
	}
	return nil, fmt.Errorf("read the certificate in %s: it changed %d times while it was read; find out what replaces %s there",
		dir, readRounds, filepath.Join(versions, current))
}

// inUse returns the name of the current version, or an empty string.
func inUse(dir string) string {
	name, err := os.Readlink(filepath.Join(dir, versions, current))
	if err == nil {
		return name
	}
	if path, ok := unfinished(dir); ok {
		return filepath.Base(path)
	}
	return ""
}

func read(dir string) (*cert.Bundle, error) {
	files := map[string][]byte{}
	for _, name := range []string{Key, Cert, Chain, Fullchain} {
		data, err := localfile.ReadAny(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		files[name] = data
	}
	b, err := cert.ParseBundle(slices.Concat(files[Key], []byte("\n"), files[Fullchain]))
	if err != nil {
		return nil, err
	}
	if b.Key == nil {
		return nil, fmt.Errorf("%s has no key", Key)
	}
	if !bytes.Equal(files[Cert], b.LeafPEM()) || !bytes.Equal(files[Chain], b.ChainPEM()) {
		return nil, fmt.Errorf("%s and %s are not what %s has", Cert, Chain, Fullchain)
	}
	return b, nil
}
