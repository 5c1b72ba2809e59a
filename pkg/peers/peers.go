package peers

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// Bus passes texts between the instances on one database.
type Bus interface {
	// Notify sends a text of at most MaxText bytes to all instances, the sender
	// included. Receivers get the texts of one sender in order.
	Notify(ctx context.Context, text string) error
	// Listen receives texts until ctx ends. It calls one function at a time:
	// connected when everything sent from then on is heard, and down when nothing
	// is heard until connected is called again. Texts may come from anybody.
	Listen(ctx context.Context, connected func(), heard func(text string), down func(error))
}

// MaxText is the length of the longest text that a Bus must pass. PostgreSQL's
// NOTIFY takes less than 8000 bytes.
const MaxText = 7999

// Config says who we are and what the others may cause here.
type Config struct {
	Bus      Bus                 // PostgreSQL
	Identity *age.X25519Identity // the one that all instances share
	Self     string              // unique among all instances that ever share the database
	Local    challenge.Publisher // serves the others' answers, of the types that this instance has a port for
	Due      func()              // something became due; it must not block
	News     func(id string)     // there is news of a certificate; it must not block
	Logger   *slog.Logger        // nil: none. No name that a certificate is for is ever logged here.

	// Life is how long another instance's answer is given if that instance does
	// not take it away: longer than any issuance. 0: 10 minutes.
	Life time.Duration
	// Heartbeat is how often an instance says that it is here. Who is not heard
	// for three of them is forgotten. 0: 10 seconds.
	Heartbeat time.Duration
}

const (
	// Patience is how long Share waits for the others at most.
	ShareTimeout = 2 * time.Second
	// settling is how long after our own hello the others have to answer it.
	helloTimeout = 200 * time.Millisecond
	// maxSkew is how old a message may be, or how far ahead its sender's clock.
	maxSkew = time.Minute
	// maxOthers and maxForeign bound what the others can make us remember.
	maxOthers  = 64
	maxForeign = 4096
)

// Peers is this instance's ear and voice. It is safe for concurrent use. A nil
// *Peers is an instance that has a database to itself: it shares nothing.
type Peers struct {
	cfg       Config
	box       *seal.Box
	out       outbox
	ready     chan struct{} // closed when the others have had the time to answer our hello
	readyOnce sync.Once     // closes ready
	serving   sync.WaitGroup

	mu         sync.Mutex // guards what follows
	running    bool
	others     map[string]*other
	own        map[string]*shared
	foreign    map[foreignKey]chan struct{} // closed when the answer goes
	reception  reception
	lastWarned map[string]time.Time // when each kind of trouble was logged last
}

// other is another instance.
type other struct {
	heardAt time.Time
	silent  bool // it did not acknowledge in time: nobody waits for it
}

// shared is an answer of ours that the others give as well.
type shared struct {
	item    item
	fetched func()
	waiting map[string]bool // instances that have not acknowledged it
	done    chan struct{}   // closed when none is left, or nobody waits any more
	closed  bool            // done is
}

// New checks the configuration; nothing is heard or said before Run.
func New(cfg Config) (*Peers, error) {
	if cfg.Self == "" || len(strconv.QuoteToASCII(cfg.Self)) > maxName {
		return nil, errors.New("peers: Self must be a short line of ASCII")
	}
	if cfg.Life == 0 {
		cfg.Life = 10 * time.Minute
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	box, err := seal.NewBox(cfg.Identity, purpose)
	if err != nil {
		return nil, err
	}
	return &Peers{
		cfg: cfg, box: box, out: outbox{more: make(chan struct{}, 1)}, ready: make(chan struct{}),
		others: map[string]*other{}, own: map[string]*shared{}, foreign: map[foreignKey]chan struct{}{},
		lastWarned: map[string]time.Time{},
	}, nil
}

// Share has the others give an answer that this instance gives already. It
// returns when all that listen do, or after Patience. fetched is called when a
// CA fetched it from one of them. withdraw ends it; it may be called twice.
func (p *Peers) Share(ctx context.Context, a Answer, fetched func()) (withdraw func()) {
	if p == nil {
		return func() {}
	}
	timeout := time.NewTimer(ShareTimeout)
	defer timeout.Stop()
	if p.isRunning() {
		select {
		case <-p.ready:
		case <-timeout.C:
		case <-ctx.Done():
		}
	}
	if err := a.check(); err != nil {
		p.warn("unusual", "an answer to a challenge is not shared with the other instances", "error", err)
		return func() {}
	}
	id, s := p.addShared(a, fetched)
	select {
	case <-s.done:
	case <-timeout.C:
		p.giveUp(s)
	case <-ctx.Done():
	}
	return func() { p.withdraw(id) }
}

func (p *Peers) isRunning() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running
}

// begin tells the others, and waits for nobody.
func (p *Peers) addShared(a Answer, fetched func()) (string, *shared) {
	id := rand.Text()
	s := &shared{item: item{Do: put, ID: id, Answer: &a}, fetched: fetched, waiting: map[string]bool{}, done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running {
		for name, o := range p.others {
			if !o.silent {
				s.waiting[name] = true
			}
		}
		p.enqueue(s.item)
	}
	p.own[id] = s
	s.closeIfDone()
	return id, s
}

// settle ends the waiting if there is nobody left to wait for.
func (s *shared) closeIfDone() {
	if len(s.waiting) == 0 && !s.closed {
		s.closed = true
		close(s.done)
	}
}

// giveUp waits no more for those that have not acknowledged, here or elsewhere.
func (p *Peers) giveUp(s *shared) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range s.waiting {
		if o := p.others[name]; o != nil && !o.silent {
			o.silent = true
			p.cfg.Logger.Warn("another instance does not acknowledge answers to challenges; going on without it", "instance", name)
		}
		p.stopWaitingFor(name)
	}
}

// waitNoMore releases all who wait for one instance.
func (p *Peers) stopWaitingFor(name string) {
	for _, s := range p.own {
		delete(s.waiting, name)
		s.closeIfDone()
	}
}

func (p *Peers) withdraw(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.own[id]; s != nil {
		delete(p.own, id)
		if p.running {
			p.enqueue(item{Do: remove, ID: id})
		}
	}
}

// TellDue wakes the others: something became due.
func (p *Peers) NotifyDue() { p.notify(item{Do: due}) }

// TellNews wakes who waits at the others for news of a certificate.
func (p *Peers) NotifyNews(id string) { p.notify(item{Do: news, ID: id}) }

func (p *Peers) notify(it item) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running && len(p.others) > 0 {
		p.enqueue(it)
	}
}

// say puts items into the outbox.
func (p *Peers) enqueue(its ...item) {
	if !p.out.add(its...) {
		p.warnLocked("full", "too much to tell the other instances; some of it is dropped")
	}
}

// Status is what an administrator wants to know.
type Status struct {
	Others  []Other // by name
	Problem string  // why the others may not be heard; empty when all is well
}

// Other is another instance that was heard.
type Other struct {
	Name    string
	HeardAt time.Time
	Silent  bool // it did not acknowledge in time
}

// Status tells who is heard.
func (p *Peers) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{Problem: p.problem(time.Now())}
	for name, o := range p.others {
		s.Others = append(s.Others, Other{Name: name, HeardAt: o.heardAt, Silent: o.silent})
	}
	slices.SortFunc(s.Others, func(a, b Other) int { return strings.Compare(a.Name, b.Name) })
	return s
}

// Hears tells whether news of the others arrives.
func (p *Peers) IsReceiving() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running && p.reception.down == nil && time.Since(p.reception.own) < p.deafAfter()
}

// warnEvery is how often the same trouble is logged.
const warnEvery = 10 * time.Minute

func (p *Peers) warn(kind, text string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.warnLocked(kind, text, args...)
}

func (p *Peers) warnLocked(kind, text string, args ...any) {
	if last, ok := p.lastWarned[kind]; ok && time.Since(last) < warnEvery {
		return
	}
	p.lastWarned[kind] = time.Now()
	p.cfg.Logger.Warn(text, args...) //nolint:sloglint // a constant of its callers
}
