package rest

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/fair"
)

// Slow bodies of one client wait for each other and keep none of another client
// waiting; a request without a body does not wait (X42).
func TestBodiesOfClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &frontend{
			Config:  Config{Logger: slog.New(slog.DiscardHandler)},
			bodies:  newInFlight("bodies", fair.Limits{Total: 8, PerClient: 3, Reserve: 2}),
			reading: fair.New(fair.Limits{Total: 4, PerClient: 2, Reserve: 2}),
		}
		read := func(client string, body io.Reader) (bool, *httptest.ResponseRecorder) {
			w := httptest.NewRecorder()
			ok := f.readClientBody(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", body), client)
			return ok, w
		}
		ends := make(chan bool)
		var writers []*io.PipeWriter
		for range 2 {
			slow, end := io.Pipe()
			writers = append(writers, end)
			go func() {
				ok, _ := read("greedy", slow)
				ends <- ok
			}()
		}
		synctest.Wait()
		begun := time.Now()
		for _, c := range []struct{ client, body string }{{"other", "{}"}, {"greedy", ""}} {
			if ok, w := read(c.client, strings.NewReader(c.body)); !ok || time.Since(begun) != 0 {
				t.Errorf("%s with a body of %q: %d after %v", c.client, c.body, w.Code, time.Since(begun))
			}
		}
		go func() { // another one waits
			time.Sleep(bodyWait / 2) // by the test's clock
			if ok, w := read("greedy", strings.NewReader("{}")); ok || w.Code != http.StatusTooManyRequests {
				t.Errorf("a fourth: %d", w.Code)
			}
		}()
		ok, w := read("greedy", strings.NewReader("{}"))
		if ok || w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || time.Since(begun) != bodyWait {
			t.Errorf("a third: %d %v after %v", w.Code, w.Header(), time.Since(begun))
		}
		writers[0].Close()
		if !<-ends {
			t.Error("a slow body was refused")
		}
		if ok, _ := read("greedy", strings.NewReader("{}")); !ok {
			t.Error("nothing is free after an end")
		}
		writers[1].Close()
		<-ends
	})
}
