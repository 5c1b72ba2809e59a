package sign_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/acmems"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/sign"
)

func ExampleNew() {
	door := sign.New(sign.Config{
		Logger: slog.New(slog.DiscardHandler),
		Begin: func(context.Context, acmems.Caller) (sign.Attempt, error) {
			return func(context.Context, []byte) ([]byte, error) { return []byte("a chain"), nil }, nil
		},
	})
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/sign", strings.NewReader("a CSR"))
	r.Header.Set("Content-Length", "5")
	door.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body)
	// Output: 200 a chain
}
