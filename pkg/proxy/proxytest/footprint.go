package proxytest

import "runtime"

// Footprint returns the memory and the goroutines that this process uses after a
// garbage collection.
func Footprint() (heap uint64, goroutines int) {
	runtime.GC()
	runtime.GC() // frees what finalizers of the first run released
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, runtime.NumGoroutine()
}
