//go:build !linux

package sqldb

import "time"

// setUserTimeout does nothing: this system has no such option. Keepalive probes find a
// silent server, and the statement timeout ends waiting for one.
func setUserTimeout(uintptr, time.Duration) error { return nil }
