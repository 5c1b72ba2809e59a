// Package loadtest tests a proxy with many clients at once, with hostile clients,
// and with a CA that fails at random. It has the benchmarks of that, too.
//
// Its tests run one after another, since several of them measure.
package loadtest
