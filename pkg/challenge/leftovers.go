package challenge

import (
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

const (
	leftoverAge      = keptFor // no instance needs an older answer
	leftoverInterval = 24 * time.Hour
	mostLeftover     = 4096 // entries of the folder that are checked at a time
	maxAnswer        = 512  // bytes of a key authorization
)

// unfinishedName matches what newFile returns.
var unfinishedName = regexp.MustCompile(`^\.acmeproxy-[A-Z2-7]{26}$`)

// removeLeftovers removes files that killed processes left in the folder of the
// tokens, at the first answer and then once a day. A file is ours if it was never
// finished, or if it holds the key authorization of its name with our account's key,
// which no other program has. It reports no error, because such files do no harm.
func (w *webroot) removeLeftovers(dir *os.Root, c Challenge) {
	_, thumbprint, _ := strings.Cut(c.KeyAuthorization, ".")
	if thumbprint == "" || !w.isLeftoverTime() {
		return
	}
	folder, err := dir.Open(".")
	if err != nil {
		return
	}
	defer folder.Close()
	entries, _ := folder.ReadDir(mostLeftover)
	for _, e := range entries {
		if name := e.Name(); !w.needed.Holds(name) && isLeftover(dir, name, thumbprint) {
			_ = dir.Remove(name)
		}
	}
}

// isLeftoverTime reports whether a search is due, and records that it has begun.
func (w *webroot) isLeftoverTime() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.searched.IsZero() && time.Since(w.searched) < leftoverInterval {
		return false
	}
	w.searched = time.Now()
	return true
}

// isLeftover reports whether a file is an old one of ours. The folder may belong to
// another user, so a pipe must not block us, and links are not followed.
func isLeftover(dir *os.Root, name, thumbprint string) bool {
	unfinished := unfinishedName.MatchString(name)
	if !unfinished && !IsToken(name) {
		return false
	}
	if info, err := dir.Lstat(name); err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := dir.OpenFile(name, os.O_RDONLY|localfile.NoLinkNoWait, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || !localfile.IsTrusted(f) || time.Since(info.ModTime()) < leftoverAge {
		return false
	}
	text, err := io.ReadAll(io.LimitReader(f, maxAnswer+1))
	return err == nil && (unfinished || string(text) == name+"."+thumbprint)
}
