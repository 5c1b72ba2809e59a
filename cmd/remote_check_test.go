package cmd

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/api"
)

// A proxy of an earlier version has no checks. The host says who can check (X13).
func TestCheckAtOlderProxy(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusNotFound, http.StatusMethodNotAllowed} {
		err := olderProxy(&api.Problem{Status: status}, []string{"a.example.com", "b.example.com"})
		if err == nil || !strings.HasSuffix(err.Error(), "ask its administrator to run acmeproxy check a.example.com b.example.com there") {
			t.Errorf("%d: %v", status, err)
		}
	}
	refused := &api.Problem{Status: http.StatusForbidden}
	if err := olderProxy(refused, nil); !errors.Is(err, refused) {
		t.Errorf("got %v, want %v", err, refused)
	}
	if err := olderProxy(nil, nil); err != nil {
		t.Error(err)
	}
}
