package proxytest

import "runtime"

// Footprint returns what this process uses after a garbage collection.
func Footprint() (heap uint64, goroutines int) {
	runtime.GC()
	runtime.GC() // finalizers of the first round have let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, runtime.NumGoroutine()
}
