package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// Listen opens the socket with mode 0600. It replaces a socket that remains from a
// crash, so only one process may use the data directory. It closes connections of
// users other than root and the proxy's own at once.
func Listen(path string) (net.Listener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("data-dir: %s is too long for a unix socket (%d bytes, the limit is %d); use a shorter --data-dir", path, len(path), maxPath)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the old admin socket: %w", err)
	}
	// It is created under another name, so that no client connects before the mode is set.
	tmp := filepath.Join(filepath.Dir(path), ".admin")
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the old admin socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("open the admin socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(tmp, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("open the admin socket: %w", err), l.Close())
	}
	if err := os.Rename(tmp, path); err != nil {
		return nil, errors.Join(fmt.Errorf("open the admin socket: %w", err), l.Close())
	}
	return &ownerListener{UnixListener: l, path: path}, nil
}

// ownerListener accepts only connections of root and the proxy's own user. This is the
// second line of defence after the socket's mode.
type ownerListener struct {
	*net.UnixListener
	path string
}

func (l *ownerListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(conn)
		if err == nil && (uid == 0 || uid == os.Geteuid()) {
			return conn, nil
		}
		_ = conn.Close() // without an answer
	}
}

// Close closes and removes the socket.
func (l *ownerListener) Close() error {
	return errors.Join(os.Remove(l.path), l.UnixListener.Close())
}
