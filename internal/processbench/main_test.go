package processbench

import (
	"fmt"
	"os"
	"testing"
)

// The parts that this test program plays besides itself, each in a process of
// its own.
const (
	roleVariable = "ACMEPROXY_BENCH_ROLE"
	roleBare     = "bare"
	roleLoad     = "load"
)

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(roleVariable) {
	case roleBare:
		err = bare()
	case roleLoad:
		err = load()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
