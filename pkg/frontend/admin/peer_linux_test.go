package admin_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// as runs f on a thread that has another user's rights. The thread ends with it.
func as(t testing.TB, uid int, f func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked, so that no other goroutine gets this thread
		// Not syscall.Setuid, which changes all threads.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			done <- errno
			return
		}
		f()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Only the owner of the admin socket and root can use it. Its mode excludes others.
// Without the mode, the proxy closes their connections at once (A27, A38).
func TestAdminSocketOfOthers(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIP: only root can be another user; nothing shows that others are kept from the admin socket")
	}
	p := proxytest.Start(t, proxytest.Options{})
	socket := filepath.Join(p.DataDir, admin.SocketName)
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// A plain connect runs on this thread; the runtime could choose another one.
	connect := func() (n int, err error) {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return 0, err
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
			return 0, err
		}
		// It may be closed before or after the request is written.
		_ = unix.Sendto(fd, []byte("GET /status HTTP/1.0\r\n\r\n"), unix.MSG_NOSIGNAL, nil)
		return unix.Read(fd, make([]byte, 1024))
	}
	if n, err := connect(); n == 0 || err != nil {
		t.Fatalf("as root: %d bytes, %v", n, err)
	}
	as(t, 65534, func() {
		if _, err := connect(); !errors.Is(err, unix.EACCES) {
			t.Errorf("as nobody: %v, want EACCES", err)
		}
	})
	for path, mode := range map[string]os.FileMode{p.DataDir: 0o755, socket: 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	as(t, 65534, func() {
		if n, err := connect(); n > 0 || err != nil && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("as nobody, with the modes open: %d bytes, %v; want an end at once", n, err)
		}
	})
	if _, err := p.Admin.Status(t.Context()); err != nil {
		t.Errorf("as root, after that: %v", err)
	}
}
