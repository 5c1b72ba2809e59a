// Package systemdtest holds the units of contrib/systemd against systemd and
// against the command line. It has tests only.
package systemdtest
