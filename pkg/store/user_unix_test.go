//go:build unix

package store_test

import (
	"os/exec"
	"syscall"
)

// runAs makes cmd run as another user.
func runAs(cmd *exec.Cmd, user int) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}}
}
