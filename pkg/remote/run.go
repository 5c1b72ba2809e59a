package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// RunConfig is what the daemon works from.
type RunConfig struct {
	State  *State
	Wanted []Wanted      // of the configuration; those of earlier gets come on top
	Poll   time.Duration // between two questions for news of one certificate
	Logger *slog.Logger
}

// Run keeps every wanted certificate on the disk and fresh until ctx ends. Each
// has its own turn, so that one that fails holds up no other. Failures are
// logged and tried again with growing pauses.
func Run(ctx context.Context, cfg RunConfig) error {
	d := &daemon{RunConfig: cfg, timing: cfg.State.Timing.withDefaults()}
	d.delays.wake = make(chan struct{}, 1)
	var err error
	if d.getter, err = cfg.State.Getter(nil); err != nil {
		return err
	}
	d.getter.api.answered = func() { d.delays.happened(answered) }
	for _, w := range cfg.Wanted {
		if err := cfg.State.remember(ctx, w); err != nil { // so that list and status show it
			if ctx.Err() != nil {
				return nil //nolint:nilerr // asked to stop while another process held the lock
			}
			return fmt.Errorf("%s: %w", w.Names, err)
		}
	}
	cfg.State.removeLeftovers(ctx)
	d.run(ctx)
	return nil
}

type daemon struct {
	RunConfig
	timing Timing
	getter *Getter
	delays delays
	next   map[string]time.Time // by path of the Kept: when its turn is
	busy   map[string]bool      // by path: it has its turn, or waits in queue for it
	warned map[string]string    // by path: the folder whose risk was logged
	queue  []Kept
}

// ended is a turn that is over.
type ended struct {
	path string
	next time.Time
}

// turnsAtOnce are so many that some hooks that hang do not hold up the others.
const turnsAtOnce = 32

// run ends with ctx, and when all turns have.
func (d *daemon) run(ctx context.Context) {
	d.next, d.busy, d.warned = map[string]time.Time{}, map[string]bool{}, map[string]string{}
	var turns sync.WaitGroup
	defer turns.Wait()
	over := make(chan ended)
	atWork, look, freed := 0, time.Now(), map[string]bool{}
	for ctx.Err() == nil {
		if !time.Now().Before(look) {
			look = d.round()
		}
		for ; len(d.queue) > 0 && atWork < turnsAtOnce; atWork++ {
			k := d.queue[0]
			d.queue = d.queue[1:]
			turns.Go(func() {
				select {
				case over <- ended{k.path, d.turn(ctx, k)}:
				case <-ctx.Done():
				}
			})
		}
		t := time.NewTimer(time.Until(look))
		select {
		case e := <-over:
			atWork--
			delete(d.busy, e.path)
			if freed[e.path] {
				delete(freed, e.path)
				e.next = time.Now()
			}
			d.next[e.path] = e.next
			if e.next.Before(look) {
				look = e.next
			}
		case <-d.delays.wake:
			for _, path := range d.delays.released() {
				if d.busy[path] {
					freed[path] = true // its turn ends with a time that does not count
				}
				d.next[path], look = time.Now(), time.Now()
			}
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// round queues each certificate that is due and says when to look again. Those
// that were added meanwhile are seen, too.
func (d *daemon) round() time.Time {
	all, err := d.State.Kept()
	if err != nil {
		d.Logger.Error("cannot keep all certificates", "error", err)
	}
	if len(all) == 0 && err == nil {
		d.Logger.Info("nothing to keep fresh yet: acmeproxy remote get NAME, or certificates: in the configuration file")
	}
	earliest, next := time.Now().Add(d.poll()), map[string]time.Time{}
	for _, k := range all {
		d.warn(k)
		at := d.next[k.path]
		switch {
		case d.busy[k.path]: // its turn's end says when the next one is
		case time.Now().Before(at) && !cert.IsParked(at, time.Time{}, time.Now()):
			next[k.path] = at
			if at.Before(earliest) {
				earliest = at
			}
		default:
			d.busy[k.path] = true
			d.queue = append(d.queue, k)
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

// poll is the interval with a tenth of jitter.
func (d *daemon) poll() time.Duration {
	p := max(d.Poll, d.timing.ShortestPoll)
	return p - p/20 + rand.N(p/10+1)
}

// turn works on one certificate and says when to come back.
func (d *daemon) turn(ctx context.Context, listed Kept) time.Time {
	log := d.Logger.With("names", listed.Names.String(), "mode", listed.Mode)
	at, err := d.work(ctx, listed, log)
	if err != nil && ctx.Err() == nil {
		log.Error("cannot keep the certificate", "error", err)
		if at.IsZero() {
			at = time.Now().Add(d.poll())
		}
	}
	return at
}

// work is a turn's work under the certificate's lock. Its error is about the
// state directory; the proxy's and the CA's are kept with the certificate.
func (d *daemon) work(ctx context.Context, listed Kept, log *slog.Logger) (next time.Time, err error) {
	unlock, err := listed.lock(ctx)
	if err != nil {
		return next, err
	}
	defer unlock()
	// Since it was listed, a get by hand may have wanted it elsewhere.
	k, err := readKept(listed.path)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Now().Add(d.poll()), nil // it was forgotten
	}
	if err != nil {
		return next, err
	}
	file := *k
	d.getter.unstored.recall(k)
	eased := d.delays.takeEased(k.path)
	if time.Now().Before(k.NextAttempt) && !eased {
		if k.Transient {
			d.delays.wait(k.path, obtained)
		}
		return k.NextAttempt, nil
	}
	if eased {
		k.Failures = min(k.Failures, 2) // the next delay is short again
	}
	unknown := d.finishRevoking(ctx, k, log)
	if k.forgotten {
		return time.Now().Add(d.poll()), nil
	}
	before := k.Serial
	failure := d.refresh(ctx, k)
	if failure == nil {
		failure = unknown
	}
	if k.Serial != before {
		log.Info("certificate installed", "out", k.Out, "serial", k.Serial, "not_after", k.NotAfter)
		if !k.Mode.IsUnattended() {
			d.delays.happened(obtained)
		}
	}
	if ctx.Err() != nil {
		return next, nil
	}
	next = d.settle(k, failure, eased, log)
	return next, d.getter.unstored.save(k, file)
}

// finishRevoking asks what a crash or a bad connection left open. Its error says
// that it is still open, which is no reason not to renew.
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

// settle notes how the turn went and says when the next one is.
func (d *daemon) settle(k *Kept, failure error, eased bool, log *slog.Logger) time.Time {
	if failure == nil {
		next := time.Now().Add(d.poll())
		d.delays.reached(k.path)
		k.Failures, k.LastError, k.NextAttempt, k.Transient = 0, "", time.Time{}, false
		if first := time.Now().Add(d.timing.FirstPoll); (k.Serial == "" || k.Serial == k.Revoked) && next.After(first) {
			return first // the proxy works on it
		}
		return next
	}
	next := d.failed(k, failure, eased)
	log.Warn("not fresh", "error", failure, "next_attempt", next)
	return next
}

// refresh asks for news (agent), or renews when it is time (gateway).
func (d *daemon) refresh(ctx context.Context, k *Kept) error {
	if err := k.Ready(); err != nil {
		return err
	}
	if k.Mode.IsUnattended() {
		return d.getter.pull(ctx, k, daemonPull())
	}
	have, err := certfile.Read(k.Out)
	usable := err == nil && sameNames(have, k.Names) && keyTypeIs(have, k.KeyType)
	revoked := usable && (have.Serial() == k.Revoked || d.State.hasRevoked(k.Names, have.Serial()))
	if usable && !revoked && time.Now().Before(have.RenewAt()) {
		return d.getter.install(ctx, k, have, "") // which writes only what is not as it should be
	}
	return d.getter.obtain(ctx, k)
}

func keyTypeIs(b *cert.Bundle, want cert.KeyType) bool {
	got, err := cert.KeyTypeOf(b.Leaf.PublicKey)
	return err == nil && got == want
}

// hasRevoked reports whether this host revoked a certificate for these names, or asked
// for that, in any mode.
func (s *State) hasRevoked(names cert.Names, serial string) bool {
	for _, mode := range clients.GrantableModes() {
		k, err := readKept(s.keptPath(mode, names))
		if err == nil && (k.Revoked == serial || k.Revoking != nil && k.Revoking.Serial == serial) {
			return true
		}
	}
	return false
}
