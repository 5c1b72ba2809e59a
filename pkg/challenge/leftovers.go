package challenge

import (
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

const (
	leftoverAge  = keptFor // no instance needs an older answer
	leftoverLook = 24 * time.Hour
	mostLeftover = 4096 // entries of the folder that are looked at in one go
	maxAnswer    = 512  // bytes of a key authorization
)

// unfinishedName matches what newFile returns.
var unfinishedName = regexp.MustCompile(`^\.acmeproxy-[A-Z2-7]{26}$`)

// removeLeftovers removes what killed processes left in the folder of the tokens, at
// the first answer and once a day. A file is ours if its text is the key
// authorization of its name with our account's key, which no other program has, or if
// it was never finished. It reports no error: such files do no harm.
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

// isLeftoverTime reports whether it is time to look, and notes that somebody does.
func (w *webroot) isLeftoverTime() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.looked.IsZero() && time.Since(w.looked) < leftoverLook {
		return false
	}
	w.looked = time.Now()
	return true
}

// isLeftover reports whether a file is an old one of ours. The folder may belong to
// another user: a pipe there must not make us wait, nor a link lead elsewhere.
func isLeftover(dir *os.Root, name, thumbprint string) bool {
	unfinished := unfinishedName.MatchString(name)
	if !unfinished && !IsToken(name) {
		return false
	}
	if info, err := dir.Lstat(name); err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || !localfile.IsTrusted(info) || time.Since(info.ModTime()) < leftoverAge {
		return false
	}
	text, err := io.ReadAll(io.LimitReader(f, maxAnswer+1))
	return err == nil && (unfinished || string(text) == name+"."+thumbprint)
}
