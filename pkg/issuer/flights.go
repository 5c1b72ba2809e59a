package issuer

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
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
	return strings.Join(append([]string{f.ca.cfg.DirectoryURL, f.req.Client, f.req.Profile, own, strconv.FormatBool(f.req.Alternates)}, f.names...), "\x00"), true
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

	mu        sync.Mutex
	listeners []chan acme.Event // of the callers; guarded by mu
}

// maxEvents bounds the events that wait for one caller. A caller that is slower than
// that misses some; it must not delay the others.
const maxEvents = 64

// runFunc obtains a certificate.
type runFunc func(ctx context.Context, emit func(acme.Event)) (*cert.Bundle, error)

// join waits for the flight of a key, and starts it with run if necessary. It calls
// emit itself, and not after it returns. The flight ends early when the last caller's
// context ends.
func (fs *flights) join(ctx context.Context, key string, emit func(acme.Event), run runFunc) (*cert.Bundle, error) {
	if err := ctx.Err(); err != nil {
		return nil, classify(prepare, err, time.Time{})
	}
	events := make(chan acme.Event, maxEvents)
	fl := fs.enter(ctx, key, events, run)
	if !fl.wait(ctx, events, emit) {
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

// wait passes events to emit until the flight ends. It returns false if ctx ends
// first.
func (fl *flight) wait(ctx context.Context, events <-chan acme.Event, emit func(acme.Event)) (ended bool) {
	for {
		select {
		case e := <-events:
			emit(e)
		case <-fl.done:
			for len(events) > 0 { // nothing sends any more
				emit(<-events)
			}
			return true
		case <-ctx.Done():
			return false
		}
	}
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
func (fs *flights) enter(ctx context.Context, key string, own chan acme.Event, run runFunc) *flight {
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
	fl := &flight{done: make(chan struct{}), cancel: cancel, waiting: 1, listeners: []chan acme.Event{own}}
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

// emit sends an event to all callers, without waiting for any.
func (fl *flight) emit(e acme.Event) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for _, events := range fl.listeners {
		select {
		case events <- e:
		default:
		}
	}
}
