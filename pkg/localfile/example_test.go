package localfile_test

import (
	"errors"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

func ExampleRead() {
	read := func(path string) {
		var foreign *localfile.ForeignError
		if _, err := localfile.Read(path); errors.As(err, &foreign) {
			fmt.Println("another user owns it:", err)
		}
	}
	_ = read
}
