//go:build unix

package sqldb

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// The lock that root makes belongs to the owner of the database, so one that a killed
// command leaves keeps no service out.
func TestLockBelongsToTheOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files to another user")
	}
	const otherUser = 65534
	path := filepath.Join(t.TempDir(), "acmeproxy.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, otherUser, otherUser); err != nil {
		t.Fatal(err)
	}
	release, err := lockUpgrade(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	info, err := os.Lstat(path + ".upgrade")
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); owner.Uid != otherUser || owner.Gid != otherUser {
		t.Errorf("the lock belongs to %d:%d", owner.Uid, owner.Gid)
	}
}
