package processbench

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
)

// The cores that processes are pinned to: one for the measured server, the other
// for all other processes.
const (
	coreServer = "0"
	coreOthers = "1"
)

// process is a server that runs until the benchmark ends.
type process struct {
	cmd *exec.Cmd
	out bytes.Buffer
}

// start runs a command pinned to a core.
func start(b *testing.B, core string, env []string, command ...string) *process {
	b.Helper()
	p := &process{cmd: pinned(b, core, env, command...)}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.stop(b) })
	return p
}

func pinned(b *testing.B, core string, env []string, command ...string) *exec.Cmd {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), pebbletest.Tool(b, "taskset"), append([]string{"--cpu-list", core}, command...)...)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// stop asks the process to end and waits for it. It may be called twice.
func (p *process) stop(b *testing.B) {
	b.Helper()
	if p.cmd.ProcessState != nil {
		return
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		b.Error(err)
	}
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		b.Error(err)
	}
	if b.Failed() {
		b.Logf("%s:\n%s", p.cmd.Path, p.out.String())
	}
}

// cpu returns the user and system time of the process, in steps of a hundredth of a
// second.
func (p *process) cpu(b *testing.B) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(stat), ") ") // the name may hold anything
	fields := strings.Fields(after)
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime, see proc(5)
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}

// resident returns the resident memory of the process, in MiB.
func (p *process) resident(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib float64
		if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kib); err == nil {
			return kib / 1024
		}
	}
	b.Fatal("no VmRSS in /proc/PID/status")
	return 0
}

// program returns the path of the program that make build built.
func program(b *testing.B) string {
	b.Helper()
	path, err := filepath.Abs("../../bin/acmeproxy")
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		b.Fatalf("%v; run make bench, which builds it first", err)
	}
	return path
}

// freeAddr returns a free address on this host.
func freeAddr(b *testing.B) string {
	b.Helper()
	port, err := pebbletest.FreePort()
	if err != nil {
		b.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// awaitPort waits until a process accepts connections at an address.
func awaitPort(b *testing.B, addr string, p *process) {
	b.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s does not come up: %v\n%s", p.cmd.Path, err, p.out.String())
		}
	}
}
