// Package processbench measures the program as its users run it: whole
// processes, each pinned to one core, beside peers that are measured in turns
// in the same run. It has benchmarks only; make bench runs them.
package processbench
