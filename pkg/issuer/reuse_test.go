package issuer_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// reuse makes a CA answer newOrder with the account's order of the same names that is not
// finalized, as Boulder does. It counts those answers.
type reuse struct {
	mu     sync.Mutex
	orders map[string]*httptest.ResponseRecorder // by identifiers
	by     map[string]string                     // identifiers by the path of finalize
	reused int
}

func (u *reuse) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if kind := pebbletest.Kind(r); kind == pebbletest.NewOrder {
		u.newOrder(w, r, next)
		return
	}
	u.mu.Lock()
	delete(u.orders, u.by[r.URL.Path])
	u.mu.Unlock()
	next.ServeHTTP(w, r)
}

func (u *reuse) newOrder(w http.ResponseWriter, r *http.Request, next http.Handler) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var message struct{ Payload string }
	json.Unmarshal(body, &message)
	payload, _ := base64.RawURLEncoding.DecodeString(message.Payload)
	var order struct{ Identifiers json.RawMessage }
	json.Unmarshal(payload, &order)
	u.mu.Lock()
	defer u.mu.Unlock()
	answer := u.orders[string(order.Identifiers)]
	if answer != nil {
		u.reused++
	} else {
		answer = httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		var created struct{ Finalize string }
		if json.Unmarshal(answer.Body.Bytes(), &created); answer.Code == http.StatusCreated {
			u.orders[string(order.Identifiers)] = answer
			u.by["/"+strings.SplitN(created.Finalize, "/", 4)[3]] = string(order.Identifiers)
		}
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes())
}

// Several clients that request the same names at once all get a certificate, although the
// CA gives them one order, which only one of them can finalize (A43).
func TestReusedOrder(t *testing.T) {
	t.Parallel()
	var ca pebbletest.Fault
	u := &reuse{orders: map[string]*httptest.ResponseRecorder{}, by: map[string]string{}}
	e := start(t, pebbletest.Options{Wrap: ca.Wrap}, nil)
	ca.Set(u.serve)
	const clients = 4
	var begun, all sync.WaitGroup
	begun.Add(clients)
	var mu sync.Mutex
	serials := map[string]bool{}
	for i := range clients {
		all.Go(func() {
			var once sync.Once
			req := cert.Request{Names: names(t, "shared.example.com"), KeyType: cert.EC256, Client: string(rune('a' + i))}
			bundle, err := e.issuer.Issue(t.Context(), req, func(event acme.Event) {
				if event.Stage == acme.Finalizing { // all of them have the order then
					once.Do(func() { begun.Done(); begun.Wait() })
				}
			})
			if err != nil {
				t.Errorf("client %d: %v", i, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			serials[bundle.Serial()] = true
		})
	}
	all.Wait()
	if u.reused == 0 || len(serials) != clients {
		t.Errorf("%d certificates, %d orders were reused", len(serials), u.reused)
	}
}
