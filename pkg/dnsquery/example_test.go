package dnsquery_test

import (
	"context"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/dnsquery"
)

func ExampleAsk() {
	ask := func(ctx context.Context, q dnsquery.Question) {
		answer, err := dnsquery.Ask(ctx, "127.0.0.1:53", q)
		fmt.Println(answer, err)
	}
	_ = ask
}
