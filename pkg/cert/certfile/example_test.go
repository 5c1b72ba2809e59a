package certfile_test

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

func ExampleLayout_Write() {
	install := func(ctx context.Context, dir string, b *cert.Bundle) {
		layout := certfile.Layout{Formats: []string{"haproxy"}, KeyMode: "0640"}
		if err := layout.Write(ctx, dir, b); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(filepath.Join(dir, certfile.Fullchain))
	}
	_ = install
}
