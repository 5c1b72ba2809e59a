// Package processbench measures the program as its users run it: as a process that
// is pinned to one core. Its peers are measured alternately in the same run. It has
// benchmarks only. Run them with make bench.
package processbench
