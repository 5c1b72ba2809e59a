package issuer

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// sharingKey returns a key that is equal for two requests that can share an issuance.
// They have the same CA, client, names, profile and key. Two CSRs must have the same
// content and extensions; only their signatures may differ. A request with a journal
// has no key.
func (f *flow) sharingKey() (key string, ok bool) {
	if f.req.OnOrder != nil || f.req.Order.URL != "" {
		return "", false
	}
	own := string(f.req.KeyType)
	if f.csr != nil {
		csr, err := x509.ParseCertificateRequest(f.csr)
		if err != nil {
			return "", false
		}
		own = fmt.Sprintf("%x", sha256.Sum256(csr.RawTBSCertificateRequest))
	}
	return strings.Join(append([]string{f.ca.cfg.DirectoryURL, f.req.Client, f.req.Profile, own}, f.names...), "\x00"), true
}

// flights holds the issuances in flight that requests may join. The zero value is
// ready to use.
type flights struct {
	mu sync.Mutex
	by map[string]*flight // by sharing key; guarded by mu
}

// flight is an issuance that several callers may wait for.
type flight struct {
	cancel  context.CancelFunc
	waiting int           // callers; guarded by flights.mu
	done    chan struct{} // closed at the end
	bundle  *cert.Bundle  // set before done is closed
	err     error         // set before done is closed

	panicked any // run's panic value; set before done is closed

	emitting sync.Mutex // held while an event is sent to all listeners

	mu        sync.Mutex
	listeners []*listener // guarded by mu
}

// listener is a caller that receives a flight's events.
type listener struct {
	mu   sync.Mutex
	emit func(acme.Event) // guarded by mu; nil once the caller has left
}

func (l *listener) tell(e acme.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.emit != nil {
		l.emit(e)
	}
}

// leave ensures that emit is not called after it returns.
func (l *listener) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.emit = nil
}

// runFunc obtains a certificate.
type runFunc func(ctx context.Context, emit func(acme.Event)) (*cert.Bundle, error)

// join waits for the flight of a key, and starts it with run if necessary. The
// flight ends early when the last caller's context ends.
func (fs *flights) join(ctx context.Context, key string, emit func(acme.Event), run runFunc) (*cert.Bundle, error) {
	if err := ctx.Err(); err != nil {
		return nil, classify(prepare, err, time.Time{})
	}
	own := &listener{emit: emit}
	fl := fs.enter(ctx, key, own, run)
	defer own.leave()
	select {
	case <-fl.done:
	case <-ctx.Done():
		if !fs.leave(key, fl) {
			return nil, classify("wait for the same certificate", ctx.Err(), time.Time{})
		}
		<-fl.done // the flight removes its answers first
	}
	if fl.panicked != nil {
		panic(fl.panicked)
	}
	if fl.err != nil {
		return nil, fl.failure(ctx.Err())
	}
	bundle := *fl.bundle
	return &bundle, nil
}

// failure returns a copy of the flight's error, for one caller. If the caller's
// context ended the flight, the error wraps that context's error.
func (fl *flight) failure(ended error) error {
	var e *acme.Error
	if !errors.As(fl.err, &e) {
		return fl.err
	}
	own := *e
	if ended != nil && errors.Is(e.Err, context.Canceled) {
		own.Err = ended
	}
	return &own
}

// enter adds a caller to the flight of a key, and starts the flight if necessary. A
// caller that joins a flight receives the events from then on.
func (fs *flights) enter(ctx context.Context, key string, own *listener, run runFunc) *flight {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fl := fs.by[key]; fl != nil {
		fl.waiting++
		fl.mu.Lock()
		defer fl.mu.Unlock()
		fl.listeners = append(fl.listeners, own)
		return fl
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	fl := &flight{done: make(chan struct{}), cancel: cancel, waiting: 1, listeners: []*listener{own}}
	if fs.by == nil {
		fs.by = map[string]*flight{}
	}
	fs.by[key] = fl
	go func() {
		defer cancel()
		defer close(fl.done)
		fl.call(ctx, run)
		fs.mu.Lock()
		defer fs.mu.Unlock()
		fs.forget(key, fl)
	}()
	return fl
}

// call calls run. It stores a panic for the callers, because a panic in this
// goroutine would end the process.
func (fl *flight) call(ctx context.Context, run runFunc) {
	defer func() { fl.panicked = recover() }()
	fl.bundle, fl.err = run(ctx, fl.emit)
}

// leave removes one caller, and cancels the flight after the last one.
func (fs *flights) leave(key string, fl *flight) (last bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fl.waiting--; fl.waiting > 0 {
		return false
	}
	fs.forget(key, fl) // a new caller must not join
	fl.cancel()
	return true
}

// forget removes a flight, so that no caller can join it. The caller holds mu.
func (fs *flights) forget(key string, fl *flight) {
	if fs.by[key] == fl {
		delete(fs.by, key)
	}
}

// emit sends an event to all callers, one event after another.
func (fl *flight) emit(e acme.Event) {
	fl.emitting.Lock()
	defer fl.emitting.Unlock()
	fl.mu.Lock()
	all := slices.Clone(fl.listeners)
	fl.mu.Unlock()
	for _, l := range all {
		l.tell(e)
	}
}
