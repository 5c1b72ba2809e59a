package processbench

import (
	"fmt"
	"os"
	"testing"
)

// Other programs that this test program can run as, each in its own process.
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
