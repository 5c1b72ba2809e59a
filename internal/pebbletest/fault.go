package pebbletest

import (
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
)

// Fault is a handler between a client and Pebble that injects faults. The zero value
// passes all requests to Pebble. It may be used concurrently.
//
//	var ca pebbletest.Fault
//	pebbletest.Start(t, pebbletest.Options{Wrap: ca.Wrap})
//	ca.Fail(http.StatusServiceUnavailable, pebbletest.Finalize)
//	…
//	ca.PassAll()
type Fault struct{ answer atomic.Pointer[Answer] }

// Answer answers a request instead of Pebble, which is next.
type Answer func(w http.ResponseWriter, r *http.Request, next http.Handler)

// Wrap returns a handler that injects faults, for Options.Wrap.
func (f *Fault) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.serve(w, r, next) })
}

func (f *Fault) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if answer := f.answer.Load(); answer != nil {
		(*answer)(w, r, next)
		return
	}
	next.ServeHTTP(w, r)
}

// Set makes answer handle all requests.
func (f *Fault) Set(answer func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	a := Answer(answer)
	f.answer.Store(&a)
}

// PassAll passes all requests to Pebble again.
func (f *Fault) PassAll() { f.answer.Store(nil) }

// Fail answers requests of these kinds with a status, or all requests if no kind
// is given.
func (f *Fault) Fail(status int, kinds ...string) {
	f.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if len(kinds) > 0 && !slices.Contains(kinds, Kind(r)) {
			next.ServeHTTP(w, r)
			return
		}
		http.Error(w, "out of order", status)
	})
}

// Hold blocks requests of one kind until release is called, which may be called
// twice. Then they get the answer that was set meanwhile. arrived is closed when the
// first one arrives.
func (f *Fault) Hold(t testing.TB, kind string) (arrived <-chan struct{}, release func()) {
	came, gate := make(chan struct{}), make(chan struct{})
	var first, opened atomic.Bool
	var held *Answer
	release = func() {
		if opened.CompareAndSwap(false, true) {
			f.answer.CompareAndSwap(held, nil)
			close(gate)
		}
	}
	t.Cleanup(release)
	f.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if Kind(r) != kind {
			next.ServeHTTP(w, r)
			return
		}
		if first.CompareAndSwap(false, true) {
			close(came)
		}
		select {
		case <-gate:
			f.serve(w, r, next)
		case <-r.Context().Done():
		}
	})
	held = f.answer.Load()
	return came, release
}
