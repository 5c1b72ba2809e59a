package printable_test

import (
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

func ExampleLine() {
	fmt.Printf("%q\n", printable.Line("two\nlines"))
	// Output: "two\\nlines"
}
