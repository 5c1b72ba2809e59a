package remote_test

import (
	"context"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

func ExampleState_Getter() {
	get := func(ctx context.Context, dir string, want remote.Wanted) {
		state, err := remote.Open(dir, "example/1.0")
		if err != nil {
			fmt.Println(err)
			return
		}
		getter, err := state.Getter(nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		want.Mode = clients.ModeAgent
		kept, err := getter.Get(ctx, want)
		fmt.Println(kept, err)
	}
	_ = get
}
