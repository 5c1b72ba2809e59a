//go:build !linux

package smalldisk

import "testing"

// Disk is a mounted small file system.
type Disk struct{ Dir string }

// Mount skips the test: only Linux has a tmpfs that it can mount.
func Mount(t testing.TB, _ int) Disk {
	t.Helper()
	t.Skip("NOT TESTED: a small file system can be mounted on Linux only")
	return Disk{}
}

// Fill and Clear are never called.
func (Disk) Fill(testing.TB, int) {}

// Clear is never called.
func (Disk) Clear(testing.TB) {}
