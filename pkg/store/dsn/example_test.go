package dsn_test

import (
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/store/dsn"
)

func ExampleParse() {
	u, err := dsn.Parse("postgres://acmeproxy:secret@db.example.com/acmeproxy")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(u)
	// Output: postgres://acmeproxy@db.example.com/acmeproxy
}
