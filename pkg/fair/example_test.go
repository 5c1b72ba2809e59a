package fair_test

import (
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/fair"
)

func ExamplePlaces_Try() {
	places := fair.New(fair.Limits{Total: 2, PerClient: 1})
	release, ok := places.Try("web1")
	_, second := places.Try("web1")
	_, other := places.Try("web2")
	fmt.Println(ok, second, other)
	release()
	// Output: true false true
}
