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
	roleACME     = "acme"
	roleACMELoad = "acme-load"
)

// The server's address and data directory, for other processes.
const (
	addrVariable = "ACMEPROXY_BENCH_ADDR"
	dirVariable  = "ACMEPROXY_BENCH_DIR"
)

// profileVariable names the file for a CPU profile of the ACME server.
const profileVariable = "ACMEPROXY_BENCH_PROFILE"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(roleVariable) {
	case roleBare:
		err = bare()
	case roleLoad:
		err = load()
	case roleACME:
		err = serveACME()
	case roleACMELoad:
		err = acmeLoad()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
