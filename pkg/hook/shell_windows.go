package hook

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/windows"
)

const shell = "cmd.exe"

// shellCommand returns the shell's process for a command. /S and the outer quotes make
// cmd.exe take the command literally, as an administrator would type it.
func shellCommand(ctx context.Context, command string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, shell)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		CmdLine:       `cmd.exe /S /C "` + command + `"`,
		CreationFlags: windows.CREATE_NEW_PROCESS_GROUP, // Ctrl-C ends this program, not the command
	}
	return cmd
}

// start starts the command in a job, which has all its processes. The caller calls
// finish after the shell has exited.
func start(cmd *exec.Cmd) (finish func(kill bool), err error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return nil, err
	}
	cmd.Cancel = func() error { return windows.TerminateJobObject(job, 1) }
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, windows.CloseHandle(job))
	}
	if err := join(job, cmd.Process.Pid); err != nil { // Cancel would end nothing
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait(), windows.CloseHandle(job))
	}
	return func(kill bool) {
		if kill {
			_ = windows.TerminateJobObject(job, 1)
		}
		_ = windows.CloseHandle(job)
	}, nil
}

// join adds a process to a job, with all processes that it starts from now on.
func join(job windows.Handle, pid int) error {
	process, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(pid))
	if err != nil {
		return err
	}
	defer windows.CloseHandle(process)
	return windows.AssignProcessToJobObject(job, process)
}

// sameName returns the name of a variable in the form in which names are compared:
// Windows ignores the case.
func sameName(name string) string { return strings.ToUpper(name) }
