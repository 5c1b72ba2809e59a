//go:build race

package proxy_test

// raceDetector makes everything several times slower.
const raceDetector = true
