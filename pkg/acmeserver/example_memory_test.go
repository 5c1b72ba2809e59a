package acmeserver_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// A nonce is used once on all Servers that share the storage.
func ExampleNewMemory() {
	ctx, storage := context.Background(), acmeserver.NewMemory()
	for range 2 {
		err := storage.UseNonce(ctx, "oFvnlFP1wIhRlYS2jTaXbA", time.Now().Add(time.Hour))
		fmt.Println(errors.Is(err, acmeserver.ErrExists))
	}
	// Output:
	// false
	// true
}
