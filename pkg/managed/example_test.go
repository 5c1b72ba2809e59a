package managed_test

import (
	"errors"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

func ExampleIsFault() {
	err := fmt.Errorf("store the certificate: %w", &managed.Fault{Err: errors.New("disk full")})
	fmt.Println(managed.IsFault(err), managed.IsFault(managed.ErrLost))
	// Output: true false
}
