// Package systemdtest checks the units of contrib/systemd with systemd and with the
// command line. It has tests only.
package systemdtest
