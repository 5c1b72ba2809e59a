package hook_test

import (
	"context"
	"fmt"
	"os"

	"github.com/acmeproxy/acmeproxy/pkg/hook"
)

func ExampleHook_Run() {
	h := hook.Hook{Environ: os.Environ(), Command: `test "$ACMEPROXY_NAMES" = web1.example.com`}
	fmt.Println(h.Run(context.Background(), hook.Event{Names: []string{"web1.example.com"}}))
	// Output: <nil>
}
