//go:build unix

package hook

import (
	"context"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

const shell = "/bin/sh"

// shellCommand returns the shell's process for a command. It has a process group of
// its own, which gets SIGTERM when ctx ends.
func shellCommand(ctx context.Context, command string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, shell, "-c", command)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	return cmd
}

// start starts the command. The caller calls finish after the shell has exited.
func start(cmd *exec.Cmd) (finish func(kill bool), err error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func(kill bool) {
		if kill {
			// The shell has exited, but its children may have ignored SIGTERM. The
			// group's ID stays in use while it has a member, so no unrelated process
			// is killed.
			_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		}
	}, nil
}

// sameName returns the name of a variable in the form in which names are compared.
func sameName(name string) string { return name }
