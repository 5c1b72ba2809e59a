//go:build unix

package cmd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// becomeOwner gives up root's rights for those of the user that owns the folders of
// the SQLite files. That user could otherwise make root write through links in them.
// Other users, and root in its own folders, continue as they are.
func becomeOwner(files ...string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var owner *syscall.Stat_t
	for _, file := range files {
		info, err := os.Stat(filepath.Dir(file))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || stat.Uid == 0 {
			continue
		}
		if owner != nil && owner.Uid != stat.Uid {
			return fmt.Errorf("the folders of the databases belong to user ids %d and %d; copy in two steps, through a file of one of them", owner.Uid, stat.Uid)
		}
		owner = stat
	}
	if owner == nil {
		return nil
	}
	uid, gid := int(owner.Uid), int(owner.Gid)
	if err := errors.Join(syscall.Setgroups([]int{gid}), syscall.Setgid(gid), syscall.Setuid(uid)); err != nil {
		return fmt.Errorf("cannot continue as user id %d, which owns the data folder: %w; run this as that user", uid, err)
	}
	for _, file := range files {
		if _, err := os.Stat(filepath.Dir(file)); errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("user id %d owns a database's folder and cannot reach %s; for a systemd service with DynamicUser, use systemd-run as docs/database.md shows", uid, filepath.Dir(file))
		}
	}
	return nil
}
