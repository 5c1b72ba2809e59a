// Package loadtest tests and benchmarks a proxy with many concurrent clients, with
// hostile clients, and with a CA that fails at random.
//
// Its tests run one after another, because several of them measure.
package loadtest
