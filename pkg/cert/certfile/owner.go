package certfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// Owner identifies the certificate that a folder belongs to.
type Owner struct {
	Program string `json:"program"`      // such as "remote" or "serve"
	Dir     string `json:"dir"`          // its state or data directory, an absolute path
	ID      string `json:"id,omitempty"` // the same in all processes that share the certificate; may be empty
	Name    string `json:"name"`         // the certificate's stored name
}

// isSame reports whether o and other are the same installation. That installation
// decides itself which of its certificates has the folder. Two hosts that share a folder
// may have directories of one path, so the path counts only without two IDs.
func (o Owner) isSame(other Owner) bool {
	if o.Program != other.Program || o.ID == "" || other.ID == "" {
		return o.Program == other.Program && o.Dir == other.Dir
	}
	return o.ID == other.ID
}

// contains reports whether a folder lies in the owner's directory, where no other
// installation writes. A copy of that directory has the records of the original.
func (o Owner) contains(dir string) bool {
	rel, err := filepath.Rel(localfile.Resolve(o.Dir), localfile.Resolve(dir))
	return err == nil && filepath.IsLocal(rel)
}

// isGone reports whether the owner's directory was removed or moved. Then another
// owner may have the folder. If the record has an ID, this cannot be known: the directory
// may be on another host that shares the folder, and a moved one keeps its ID.
func (o Owner) isGone() bool {
	if o.ID != "" {
		return false
	}
	_, err := os.Lstat(o.Dir)
	return errors.Is(err, fs.ErrNotExist)
}

// Claim says who writes to a folder. The zero value checks nothing.
type Claim struct {
	Owner Owner
	// Force takes the folder from another owner. It also replaces files of other
	// programs, after it has kept a copy of each.
	Force bool
	// Copied, if not nil, is called with the path of each copy. Even without Force, a
	// file that was put in the place of ours is copied before it is replaced.
	Copied func(path string)
}

// OwnedError reports a folder that belongs to another certificate.
type OwnedError struct {
	Dir   string // the folder
	Owner Owner
}

func (e *OwnedError) Error() string {
	return fmt.Sprintf("%s belongs to the certificate %q of acmeproxy %s (%s)", e.Dir, e.Owner.Name, e.Owner.Program, e.Owner.Dir)
}

const (
	ownerName = "owner"      // in versions
	nextOwner = "owner.next" // in versions; an unfinished record
	maxOwner  = 16 << 10     // bytes of a record
)

// Claimable returns an error unless c may write to dir: an *OwnedError if the folder
// belongs to another owner, a *ForeignFilesError if another program has files there. With
// Force, it returns an error if those files could not be copied. It changes nothing. Call it before a certificate is ordered.
func (l Layout) Claimable(dir string, c Claim) error {
	if c.Owner == (Owner{}) {
		return nil
	}
	out, err := localfile.OpenFolder(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer out.Close()
	if c.Force {
		return checkCopies(out, l.names())
	}
	return c.check(out, l.names())
}

// check checks an opened output folder.
func (c Claim) check(out *os.Root, names []string) error {
	if c.Owner == (Owner{}) || c.Force {
		return nil
	}
	sets, err := localfile.OpenDir(out, versions)
	if err == nil {
		defer sets.Close()
		owner, ok := readOwner(sets)
		if ok && !owner.isSame(c.Owner) && !owner.isGone() && !c.Owner.contains(out.Name()) {
			return &OwnedError{Dir: filepath.Clean(out.Name()), Owner: owner}
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	found, err := foreignIn(out, names)
	if err == nil && len(found) > 0 {
		err = &ForeignFilesError{Dir: filepath.Clean(out.Name()), Names: found}
	}
	return err
}

// readOwner returns the record of a folder. A missing or damaged record is no owner.
func readOwner(sets *os.Root) (Owner, bool) {
	data, err := readIn(sets, ownerName, maxOwner+1) // the folder's owner may put a pipe there
	if err != nil {
		return Owner{}, false
	}
	return parseOwner(data)
}

func parseOwner(data []byte) (o Owner, ok bool) {
	if len(data) > maxOwner || json.Unmarshal(data, &o) != nil {
		return Owner{}, false
	}
	valid := filepath.IsAbs(o.Dir) && cert.IsStoredName(o.Name) && cert.IsStoredName(o.Program)
	if !valid || !isShowable(o.Dir) || !isShowable(o.ID) {
		return Owner{}, false
	}
	return o, true
}

// isShowable reports whether errors can show a text of a record as it is. The folder's
// owner may have written it.
func isShowable(text string) bool {
	return len(text) < printable.MaxLine && utf8.ValidString(text) && printable.Line(text) == text
}

// claim prepares the folder for a set of this owner: it keeps copies of the files of
// others that are replaced, and stores the owner.
func (f *folder) claim(c Claim, names []string) error {
	var found []string
	var err error
	if c.Force {
		found, err = foreignIn(f.out, names)
		if err != nil {
			return err
		}
		if err := keepCopies(f.out, found, time.Now(), c.Copied); err != nil {
			return err
		}
	}
	if c.Owner != (Owner{}) {
		others := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(found, name) })
		if err := f.keepChanged(others, time.Now(), c.Copied); err != nil {
			return err
		}
	}
	return f.record(c.Owner)
}

// record stores the owner. The caller must hold the folder's lock.
func (f *folder) record(o Owner) error {
	if have, ok := readOwner(f.sets); o == (Owner{}) || ok && have == o {
		return nil
	}
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := localfile.Unlink(f.sets, nextOwner); err != nil { // of a killed process
		return err
	}
	next := resolved{uid: -1, gid: -1}
	if err := next.writeFile(f.sets, file{name: nextOwner, data: append(data, '\n'), mode: 0o644}); err != nil {
		return err
	}
	return localfile.Rename(f.sets, nextOwner, f.sets, ownerName)
}

// Adopt stores the owner of a folder that has a set but no owner, as earlier releases
// left it. It changes nothing in any other folder.
func Adopt(ctx context.Context, dir string, o Owner) error {
	if inUse(dir) == "" {
		return nil
	}
	f, err := openFolder(ctx, filepath.Clean(dir))
	if err != nil {
		return err
	}
	defer f.close()
	if _, ok := readOwner(f.sets); ok || f.inUse() == "" {
		return nil
	}
	return f.record(o)
}

// Release removes the owner of a folder if it is o. The files stay.
func Release(ctx context.Context, dir string, o Owner) error {
	if _, err := os.Lstat(filepath.Join(dir, versions, ownerName)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	f, err := openFolder(ctx, filepath.Clean(dir))
	if err != nil {
		return err
	}
	defer f.close()
	if have, ok := readOwner(f.sets); !ok || !have.isSame(o) || have.Name != o.Name {
		return nil
	}
	return localfile.Unlink(f.sets, ownerName)
}

// HasSet reports whether the folder has a set of this package.
func HasSet(dir string) bool { return inUse(dir) != "" }

// HasOwner reports whether the folder has a record of its owner, which may be damaged.
func HasOwner(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, versions, ownerName))
	return err == nil
}
