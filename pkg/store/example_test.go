package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{Path: filepath.Join(dir, "acmeproxy.db")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	m, created, err := s.EnsureManaged(ctx, managed.Certificate{Mode: "acme-client", Names: []string{"web1.example.com"}})
	fmt.Println(m.Names, created, err)
	// Output: [web1.example.com] true <nil>
}
