package rest

import (
	"errors"
	"net/http"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/acmeproxy/acmeproxy/pkg/fair"
)

// A client may have so many, all together so many more, and what has ended
// does not count (X5). A client that has none gets one of the reserve (X42).
func TestInFlight(t *testing.T) {
	t.Parallel()
	n := newInFlight("long polls", fair.Limits{Total: 3, PerClient: 2, Reserve: 1})
	begin := func(client string, want int) (end func()) {
		t.Helper()
		end, err := n.begin(client)
		status := 0
		var model huma.StatusError
		var headers huma.HeadersError
		if errors.As(err, &model) {
			status = model.GetStatus()
		}
		if status != want {
			t.Errorf("%s: %v, want status %d", client, err, want)
		}
		if err != nil && (!errors.As(err, &headers) || headers.GetHeaders().Get("Retry-After") == "") {
			t.Errorf("%s: no Retry-After", client)
		}
		return end
	}
	end := begin("a", 0)
	begin("a", 0)
	begin("a", http.StatusTooManyRequests)
	endB := begin("b", 0)
	endC := begin("c", 0)
	begin("d", http.StatusServiceUnavailable)
	begin("c", http.StatusServiceUnavailable)
	endC()
	begin("d", 0)
	end()
	begin("a", http.StatusServiceUnavailable)
	endB()
	begin("a", 0)
}
