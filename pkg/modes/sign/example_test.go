package sign_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/acmeproxy/acmeproxy/pkg/acmems"
	"github.com/acmeproxy/acmeproxy/pkg/modes/sign"
)

func ExampleDoor_Begin() {
	answer := func(ctx context.Context, d *sign.Door, body []byte) {
		attempt, err := d.Begin(ctx, acmems.Caller{Addr: netip.MustParseAddr("192.0.2.7")})
		if err != nil {
			fmt.Println(err)
			return
		}
		chain, err := attempt(ctx, body)
		fmt.Println(string(chain), err)
	}
	_ = answer
}
