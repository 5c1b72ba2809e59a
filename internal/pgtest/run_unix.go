//go:build unix

package pgtest

import (
	"os/exec"
	"syscall"
)

// run makes cmd run as this user, and in a process group of its own. If a is nil, the
// user stays.
func (a *account) run(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
}
