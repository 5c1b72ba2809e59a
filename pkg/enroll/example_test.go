package enroll_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/enroll"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

func ExampleRegistrar_Add() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "enroll")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	st, err := store.Open(ctx, store.Config{Path: filepath.Join(dir, "acmeproxy.db")})
	if err != nil {
		panic(err)
	}
	defer st.Close()

	r := enroll.New(enroll.Config{
		Store: st,
		Audit: audit.New(audit.Config{Store: st, Logger: slog.New(slog.DiscardHandler)}),
		URL:   func() string { return "https://acmeproxy.example.com" },
	})
	web1 := clients.Client{Name: "web1", Grants: []clients.Grant{{Names: []string{"web1.example.com"}, Modes: clients.GrantableModes()}}}
	issued, err := r.Add(ctx, web1, enroll.SecretSpec{})
	if err != nil {
		panic(err)
	}
	fmt.Println(issued.Client.Name, issued.Kind, issued.Secret[:5])

	_, err = r.Add(ctx, clients.Client{Name: "web 2"}, enroll.SecretSpec{})
	var invalid *enroll.InvalidError
	if errors.As(err, &invalid) {
		fmt.Println(len(invalid.Faults), "faults")
	}
	// Output:
	// web1 enroll apx1-
	// 2 faults
}
