package remote

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// RunConfig configures the daemon.
type RunConfig struct {
	State  *State
	Wanted []Wanted      // from the configuration; Run also renews those of earlier calls of Get
	Poll   time.Duration // interval of the requests for a new bundle of one certificate
	Logger *slog.Logger
	// Changes receives settings that replace Wanted and Poll. A nil channel has none.
	Changes <-chan Change
}

// Run gets and renews every wanted certificate until ctx ends. Each certificate has
// its own turn, so a failing one does not delay the others. Run logs failures and
// retries with increasing delays.
func Run(ctx context.Context, cfg RunConfig) error {
	d := &daemon{RunConfig: cfg, timing: cfg.State.Timing.withDefaults()}
	d.delays.wake = make(chan struct{}, 1)
	var err error
	if d.getter, err = cfg.State.Getter(nil); err != nil {
		return err
	}
	d.getter.api.answered = func() { d.delays.notify(answered) }
	if err := d.reconcile(ctx, cfg.Wanted); err != nil { // so that list and status show all
		if ctx.Err() != nil {
			return nil //nolint:nilerr // asked to stop while another process held the lock
		}
		return err
	}
	cfg.State.removeLeftovers(ctx)
	cfg.State.removeKeptLeftovers()
	d.run(ctx)
	return nil
}

type daemon struct {
	RunConfig
	changedPoll atomic.Int64 // Poll of the last change, in nanoseconds, since turns read it; 0: none
	timing      Timing
	getter      *Getter
	delays      delays
	next        map[string]time.Time // by path of the Kept: time of its next turn
	busy        map[string]bool      // by path: its turn runs or is queued
	warned      map[string]string    // by path: the folder whose risk was logged
	tryAll      bool                 // a person acted: mark all certificates in trying
	trying      map[string]bool      // by path: its next turn may end a delay
	queue       []queued
}

// queued is a certificate that waits for its turn.
type queued struct {
	Kept
	try bool
}

// ended describes a turn that has ended.
type ended struct {
	path string
	next time.Time
}

// maxTurns is the number of concurrent turns. It is large, so that a few hooks that
// hang do not delay the others.
const maxTurns = 32

// run returns when ctx and all turns have ended.
func (d *daemon) run(ctx context.Context) {
	d.next, d.busy, d.warned = map[string]time.Time{}, map[string]bool{}, map[string]string{}
	d.trying = map[string]bool{}
	d.tryNow()
	var turns sync.WaitGroup
	defer turns.Wait()
	over := make(chan ended)
	running, check, freed := 0, time.Now(), map[string]bool{}
	changes, result := d.Changes, (<-chan error)(nil)
	for ctx.Err() == nil {
		if !time.Now().Before(check) {
			check = d.queueDue()
		}
		for ; len(d.queue) > 0 && running < maxTurns; running++ {
			k := d.queue[0]
			d.queue = d.queue[1:]
			turns.Go(func() {
				select {
				case over <- ended{k.path, d.turn(ctx, k.Kept, k.try)}:
				case <-ctx.Done():
				}
			})
		}
		t := time.NewTimer(time.Until(check))
		select {
		case e := <-over:
			running--
			delete(d.busy, e.path)
			if freed[e.path] {
				delete(freed, e.path)
				e.next = time.Now()
			}
			d.next[e.path] = e.next
			if e.next.Before(check) {
				check = e.next
			}
		case <-d.delays.wake:
			for _, path := range d.delays.takeEnded() {
				if d.busy[path] {
					freed[path] = true // ignore the time that its turn returns
				}
				d.next[path], check = time.Now(), time.Now()
			}
		case c := <-changes:
			changes, result = nil, d.change(ctx, c, &turns) // one at a time
		case err := <-result:
			d.changed(ctx, err, freed)
			changes, result, check = d.Changes, nil, time.Now()
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// queueDue queues all due certificates and returns the time of the next check. It
// reads the state directory, so it includes certificates that were added since.
func (d *daemon) queueDue() time.Time {
	all, err := d.State.Kept()
	if err != nil {
		d.Logger.Error("cannot keep all certificates", "error", err)
	}
	if len(all) == 0 && err == nil {
		d.Logger.Info("nothing to keep fresh yet: acmeproxy remote get NAME, or certificates: in the configuration file")
	}
	earliest, next := time.Now().Add(d.poll()), map[string]time.Time{}
	if d.tryAll {
		for _, k := range all {
			d.trying[k.path] = true
		}
		d.tryAll = false
	}
	for _, k := range all {
		d.warn(k)
		at := d.next[k.path]
		switch {
		case d.warnOfRival(k): // its folder belongs to another certificate
		case d.busy[k.path]: // the end of its turn sets the next time
		case time.Now().Before(at) && !cert.IsParked(at, time.Time{}, time.Now()):
			next[k.path] = at
			if at.Before(earliest) {
				earliest = at
			}
		default:
			d.busy[k.path] = true
			missed := d.delays.takeTry(k.path)
			d.queue = append(d.queue, queued{k, d.trying[k.path] || missed})
			delete(d.trying, k.path)
		}
	}
	d.next = next
	return earliest
}

// warn logs once that other users could replace the files.
func (d *daemon) warn(k Kept) {
	if d.warned[k.path] == k.Out {
		return
	}
	d.warned[k.path] = k.Out
	if risk := k.Risk(); risk != "" {
		d.Logger.Warn("another user could replace the certificate", "names", k.Names.String(), "risk", risk)
	}
}

// interval returns the present Poll.
func (d *daemon) interval() time.Duration {
	return cmp.Or(time.Duration(d.changedPoll.Load()), d.Poll)
}

// poll returns the interval with a jitter of ±5 %.
func (d *daemon) poll() time.Duration {
	p := max(d.interval(), d.timing.ShortestPoll)
	return p - p/20 + rand.N(p/10+1)
}

// turn works on one certificate and returns the time of its next turn.
func (d *daemon) turn(ctx context.Context, listed Kept, try bool) time.Time {
	log := d.Logger.With("names", listed.Names.String(), "mode", listed.Mode)
	at, err := d.work(ctx, listed, try, log)
	if err != nil && ctx.Err() == nil {
		log.Error("cannot keep the certificate", "error", err)
		if at.IsZero() {
			at = time.Now().Add(d.poll())
		}
	}
	return at
}

// work does a turn's work under the certificate's lock. With try, a person acted, which
// ends a delay that neither the CA nor the proxy asked for. It returns only errors of the
// state directory. Those of the proxy and the CA are stored with the certificate.
func (d *daemon) work(ctx context.Context, listed Kept, try bool, log *slog.Logger) (next time.Time, err error) {
	unlock, err := listed.lock(ctx)
	if err != nil {
		return next, err
	}
	defer unlock()
	// A command may have changed the certificate since it was listed.
	k, err := readNamed(&listed)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Now().Add(d.poll()), nil // it was forgotten
	}
	if err != nil {
		return next, err
	}
	file := *k
	k.options.Copied = func(path string) { log.Warn("kept a copy of a file that was not ours", "copy", path) }
	d.getter.unstored.recall(k)
	eased := d.delays.takeEased(k.path)
	allowed := eased
	if k.try = try; try {
		if allowed, err = d.allowTry(ctx, k); err != nil {
			return next, err
		}
	}
	if time.Now().Before(k.NextAttempt) && !allowed {
		if k.Transient {
			d.delays.wait(k.path, obtained)
		}
		return k.NextAttempt, nil
	}
	if eased {
		k.Failures = min(k.Failures, 2) // the next delay is short again
	}
	unknown := d.finishRevoking(ctx, k, log)
	if k.Forgetting != nil && !k.forgotten {
		return time.Now().Add(d.poll()), d.finishForgetting(ctx, k, log)
	}
	if k.forgotten {
		return time.Now().Add(d.poll()), nil
	}
	before := k.Serial
	failure := d.refresh(ctx, k, try)
	if failure == nil {
		failure = unknown
	}
	d.endFormer(ctx, k, log)
	if k.Serial != before {
		log.Info("certificate installed", "out", k.Out, "serial", k.Serial, "not_after", k.NotAfter)
		if !k.Mode.IsUnattended() {
			d.delays.notify(obtained)
		}
	}
	if ctx.Err() != nil {
		return next, nil
	}
	next = d.settle(k, failure, eased, log)
	return next, d.getter.unstored.save(k, file)
}

// finishRevoking completes a revocation that a crash or a failed connection
// interrupted. It returns an error if the result is still unknown, which does not
// prevent a renewal.
func (d *daemon) finishRevoking(ctx context.Context, k *Kept, log *slog.Logger) error {
	if k.Revoking == nil {
		return nil
	}
	serial := k.Revoking.Serial
	_, err := d.getter.finishRevoking(ctx, k)
	switch {
	case err != nil && k.Revoking == nil:
		log.Warn("certificate not revoked", "serial", serial, "error", err)
		return nil
	case err == nil:
		log.Info("certificate revoked", "serial", serial, "kept", !k.forgotten)
	}
	return err
}

// settle stores the result of a turn in k and returns the time of the next turn.
func (d *daemon) settle(k *Kept, failure error, eased bool, log *slog.Logger) time.Time {
	if failure == nil {
		next := time.Now().Add(d.poll())
		d.delays.clear(k.path)
		k.Failures, k.LastError, k.NextAttempt, k.WaitUntil, k.Transient = 0, "", time.Time{}, time.Time{}, false
		if first := time.Now().Add(d.timing.FirstPoll); (k.Serial == "" || k.Serial == k.Revoked || k.Former != nil) && next.After(first) {
			return first // the proxy is obtaining the certificate
		}
		return next
	}
	next := d.recordFailure(k, failure, eased)
	if errors.As(failure, new(*HookError)) {
		log.Warn("hook failed", "error", failure, "next_attempt", next)
		return next
	}
	log.Warn("not fresh", "error", failure, "next_attempt", next)
	return next
}

// refresh pulls a newer bundle (agent), or renews a due certificate (gateway).
func (d *daemon) refresh(ctx context.Context, k *Kept, try bool) error {
	if err := k.Ready(); err != nil {
		return &noOrderError{err}
	}
	if err := certfile.Finish(ctx, k.Out); err != nil { // it needs no proxy
		return &noOrderError{err}
	}
	if k.Mode.IsUnattended() {
		if try {
			return d.getter.pull(ctx, k, firstPull())
		}
		return d.getter.pull(ctx, k, daemonPull())
	}
	if have := d.getter.usable(k); have != nil {
		return d.getter.install(ctx, k, have, "") // writes only if the files differ
	}
	return d.getter.obtain(ctx, k)
}

func hasKeyType(b *cert.Bundle, want cert.KeyType) bool {
	got, err := cert.KeyTypeOf(b.Leaf.PublicKey)
	return err == nil && got == want
}

// hasRevoked reports whether this host revoked the certificate of that serial number, or
// requested that.
func (s *State) hasRevoked(serial string) bool {
	all, _ := s.rows() // a damaged file says nothing
	return slices.ContainsFunc(all, func(k *Kept) bool {
		return k.Revoked == serial || k.Revoking != nil && k.Revoking.Serial == serial
	})
}
