package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// command returns a run of a program, which ends with its children when ctx ends. The
// program gets nothing of this process's environment apart from the path.
func (s *site) command(ctx context.Context, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = s.dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + s.dir, "LC_ALL=C.UTF-8"}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run runs a program to its end. The error contains all that it printed.
func (s *site) run(ctx context.Context, env []string, name string, args ...string) error {
	var out bytes.Buffer
	cmd := s.command(ctx, env, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out.Bytes())
	}
	return nil
}

// path returns a path in the client's folder.
func (s *site) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// write writes a file in the client's folder.
func (s *site) write(name, text string, mode os.FileMode) error {
	return os.WriteFile(s.path(name), []byte(text), mode)
}

// one returns the certificate in two files, as a list.
func one(chainFile, keyFile string) ([]*certificate, error) {
	c, err := readCertificate(chainFile, keyFile)
	if err != nil {
		return nil, err
	}
	return []*certificate{c}, nil
}
