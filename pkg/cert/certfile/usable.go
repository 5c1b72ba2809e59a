package certfile

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// Space needed for a set: more than the largest one, with rsa8192 keys in all
// formats and long chains.
const (
	neededBytes = 128 << 10
	neededFiles = 16
)

// CheckFolder returns an error if dir, an absolute path, was certainly not meant as the
// folder of a set.
func CheckFolder(dir string) error {
	dir = filepath.Clean(dir)
	parts := strings.Split(filepath.ToSlash(dir), "/")
	info, err := os.Stat(dir)
	switch {
	case filepath.Dir(dir) == dir:
		return fmt.Errorf("%s is the root of a file system; use a folder in it", dir)
	case slices.Contains(parts, "~"):
		return fmt.Errorf("%s has a ~, which no shell has replaced; write the path of the home folder", dir)
	case slices.Contains(parts, versions):
		return fmt.Errorf("%s is in the folder %s, which is part of a certificate's files; use another folder", dir, versions)
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is not a folder; use a folder, which may be missing yet", dir)
	}
	return nil
}

// Writable returns an error unless a set could be written to dir, or to the nearest
// existing folder above it. It checks permission, space and folders with a file's
// name. It creates nothing, so only [Layout.Probe] finds a quota or missing rights
// of the owner.
func (l Layout) Writable(dir string) error {
	path, err := nearest(dir)
	if err == nil {
		err = isWritable(path)
	}
	if err == nil {
		err = hasSpace(path)
	}
	if cause := (*fs.PathError)(nil); errors.As(err, &cause) {
		err = cause.Err
	}
	if err != nil {
		return fmt.Errorf("cannot write to %s: %w", path, err)
	}
	out, err := localfile.OpenFolder(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer out.Close()
	if info, err := out.Lstat(versions); err == nil && !info.IsDir() {
		return fmt.Errorf("%s is not a folder; remove it", filepath.Join(dir, versions))
	}
	return vacant(out, l.names())
}

// Probe returns an error unless a set can be written to dir. It writes a set of the
// largest size beside it and removes it again. Call it before a certificate is
// ordered. Waiting for another process ends with ctx.
func (l Layout) Probe(ctx context.Context, dir string) error {
	as, err := l.resolve()
	if err != nil {
		return err
	}
	if err := l.Writable(dir); err != nil {
		return err
	}
	path, err := nearest(dir)
	if err != nil {
		return err
	}
	if err := as.probe(ctx, path); err != nil {
		return fmt.Errorf("cannot write to %s: %w", path, err)
	}
	return nil
}

// probe writes to the folder at path, which is .acmeproxy or a folder above it.
func (r resolved) probe(ctx context.Context, path string) error {
	root, err := localfile.OpenFolder(path)
	if err != nil {
		return err
	}
	f := &folder{sets: root}
	defer f.close()
	prefix := versions
	if filepath.Base(path) == versions { // prune removes it if this process is killed now
		prefix = time.Now().UTC().Format(versionTime)
		if f.lock, err = openLock(root); err == nil {
			err = acquire(ctx, f.lock, time.Now().Add(lockFor))
		}
		if err != nil {
			return err
		}
	}
	removeProbes(root)
	v, err := newVersion(root, prefix)
	if err != nil {
		return err
	}
	defer v.Close()
	data := make([]byte, neededBytes)
	rand.Read(data) // a file system may compress repeated bytes
	return errors.Join(r.writeFile(v.Root, file{name: probeName, data: data, mode: r.keyMode}), v.remove())
}

// probeName is the name of a probe's file.
const probeName = "probe"

var probeFolder = regexp.MustCompile(`^` + regexp.QuoteMeta(versions) + `-[0-9]{1,10}$`)

// removeProbes removes probes of processes that were killed. It reports no error,
// because leftover probes only need space.
func removeProbes(in *os.Root) {
	names, _ := namesIn(in, maxListed)
	for _, name := range names {
		if !probeFolder.MatchString(name) && !versionName.MatchString(name) {
			continue
		}
		if v, err := openVersion(in, name); err == nil {
			v.removeProbe()
			v.Close()
		}
	}
}

// emptyFor is how long an empty folder stays, because its process may be about to
// write to it. A file may be removed at any time, because that process has it open.
const emptyFor = time.Minute

// removeProbe removes the folder if it is a probe of this user.
func (v *version) removeProbe() {
	info, err := v.Stat(".")
	if err != nil || !localfile.IsTrustedIn(v.Root, ".") {
		return
	}
	names, err := namesIn(v.Root, 2)
	if err != nil || len(names) > 1 {
		return
	}
	if len(names) == 1 && names[0] == probeName || len(names) == 0 && time.Since(info.ModTime()) > emptyFor {
		_ = v.remove()
	}
}

// nearest returns the folder for versions of dir, or the nearest existing folder
// above it. A link on the path that leads nowhere is an error.
func nearest(dir string) (string, error) {
	path := filepath.Join(dir, versions)
	info, err := os.Stat(path)
	for (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)) && path != filepath.Dir(path) {
		path = filepath.Dir(path)
		info, err = os.Stat(path)
		if target, linkErr := os.Readlink(path); err != nil && linkErr == nil { // no folder can be created here
			return path, fmt.Errorf("it is a symbolic link to %s: %w; mount or create that, or change the link", target, fs.ErrNotExist)
		}
	}
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	return path, err
}

// Risk describes which users could replace a set in dir, other than root and this
// user, with the remedy. It returns an empty string if no other user could. The set
// can be written nevertheless.
func Risk(dir string) string { return localfile.Risk(filepath.Join(dir, versions)) }

// names returns the file names of a set in this layout.
func (l Layout) names() []string {
	all := []string{Key, Cert, Chain, Fullchain}
	if l.has(FormatHAProxy) {
		all = append(all, HAProxy)
	}
	if l.has(FormatPKCS12) {
		all = append(all, PKCS12)
	}
	return all
}
