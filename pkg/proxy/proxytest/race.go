//go:build race

package proxytest

// RaceDetector reports whether the race detector is on, which makes everything
// several times slower.
const RaceDetector = true
