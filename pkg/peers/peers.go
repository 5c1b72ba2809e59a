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
	// connected when all texts sent from then on will arrive, and down when none will
	// arrive until the next call of connected. Any user of the database can send texts.
	Listen(ctx context.Context, connected func(), heard func(text string), down func(error))
}

// MaxText is the maximum length of a text that a Bus must accept. PostgreSQL's NOTIFY
// accepts less than 8000 bytes.
const MaxText = 7999

// Config holds the identity of this instance and its reactions to the others.
type Config struct {
	Bus      Bus                 // PostgreSQL
	Identity *age.X25519Identity // shared by all instances
	Self     string              // unique among all instances that ever share the database
	Local    challenge.Publisher // serves the others' answers of the types that this instance has a port for
	Due      func()              // called when a certificate became due; must not block
	News     func(id string)     // called when a certificate changed; must not block
	Clients  ClientAnswers       // serves the answers that clients gave the others; nil: they are not served
	Logger   *slog.Logger        // if nil, nothing is logged. Names of certificates are never logged.

	// Life is how long another instance's answer is served if that instance does not
	// remove it. It must be longer than any issuance. If 0, it is 10 minutes.
	Life time.Duration
	// Heartbeat is the interval of heartbeats. An instance is forgotten when three of
	// its heartbeats are missing. If 0, it is 10 seconds.
	Heartbeat time.Duration
}

const (
	// ShareTimeout is how long Share waits for the others.
	ShareTimeout = 2 * time.Second
	// helloTimeout is how long the others may take to answer this instance's hello.
	helloTimeout = 200 * time.Millisecond
	// maxSkew is the maximum age of a message, and the maximum lead of its sender's clock.
	maxSkew = time.Minute
	// maxOthers, maxForeign and maxClients limit the memory that the others can use here.
	maxOthers  = 64
	maxForeign = 4096
	maxClients = 8192 // answers of clients
)

// Peers exchanges messages with the other instances. It is safe for concurrent use. A
// nil *Peers is for an instance that uses its database alone. It shares nothing.
type Peers struct {
	cfg       Config
	box       *seal.Box
	out       outbox
	ready     chan struct{} // closed when the others have had time to answer the first hello
	readyOnce sync.Once     // closes ready
	serving   sync.WaitGroup

	mu         sync.Mutex // guards the fields below
	running    bool
	others     map[string]*other
	own        map[string]*shared
	foreign    map[foreignKey]chan struct{} // closed when the answer is removed
	clients    map[foreignKey]clientAnswer
	reception  reception
	lastWarned map[string]time.Time // by kind of warning
}

// other is another instance.
type other struct {
	heardAt time.Time
	silent  bool // it did not acknowledge in time, so Share does not wait for it
}

// shared is an own answer that the others serve, too.
type shared struct {
	item    item
	fetched func()
	ended   func()          // for a client's answer: the client withdrew it elsewhere; else nil
	waiting map[string]bool // instances that have not acknowledged it
	done    chan struct{}   // closed when waiting is empty
	closed  bool            // whether done is closed
}

// New creates a Peers. It neither sends nor receives messages before Run.
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
		others: map[string]*other{}, own: map[string]*shared{}, foreign: map[foreignKey]chan struct{}{}, clients: map[foreignKey]clientAnswer{},
		lastWarned: map[string]time.Time{},
	}, nil
}

// Share makes the others serve an answer that this instance serves already. It returns
// when all of them have acknowledged it, or after ShareTimeout. It calls fetched when a
// CA has fetched the answer from one of them. withdraw removes the answer from the
// others and may be called twice.
func (p *Peers) Share(ctx context.Context, a Answer, fetched func()) (withdraw func()) {
	return p.share(ctx, a, fetched, nil)
}

func (p *Peers) share(ctx context.Context, a Answer, fetched, ended func()) (withdraw func()) {
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
	id, s := p.addShared(a, fetched, ended)
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

// addShared sends an answer to the others, without waiting for acknowledgements.
func (p *Peers) addShared(a Answer, fetched, ended func()) (string, *shared) {
	id := rand.Text()
	s := &shared{item: item{Do: put, ID: id, Answer: &a}, fetched: fetched, ended: ended, waiting: map[string]bool{}, done: make(chan struct{})}
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

// closeIfDone closes done when all instances have acknowledged the answer.
func (s *shared) closeIfDone() {
	if len(s.waiting) == 0 && !s.closed {
		s.closed = true
		close(s.done)
	}
}

// giveUp marks the instances that have not acknowledged s as silent. No other answer
// waits for them either.
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

// stopWaitingFor removes an instance from the waiting lists of all own answers.
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

// NotifyDue notifies the others that a certificate became due.
func (p *Peers) NotifyDue() { p.notify(item{Do: due}) }

// NotifyNews notifies the others that a certificate changed, which wakes its waiters.
func (p *Peers) NotifyNews(id string) { p.notify(item{Do: news, ID: id}) }

// NotifyClients notifies the others that clients or their grants have changed.
func (p *Peers) NotifyClients() { p.notify(item{Do: changed}) }

// notify sends an item if there is another instance.
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

// enqueue adds items to the outbox. The caller must hold p.mu.
func (p *Peers) enqueue(its ...item) {
	if !p.out.add(its...) {
		p.warnLocked("full", "too much to tell the other instances; some of it is dropped")
	}
}

// Status describes the connection to the other instances, for the administrator.
type Status struct {
	Others  []Other // by name
	Problem string  // why messages of others may not arrive; empty without a problem
}

// Other describes another instance.
type Other struct {
	Name    string
	HeardAt time.Time // of its last message
	Silent  bool      // it did not acknowledge in time
}

// Status returns the current state.
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

// IsReceiving reports whether messages of the others arrive.
func (p *Peers) IsReceiving() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running && p.reception.down == nil && time.Since(p.reception.own) < p.deafAfter()
}

// warnEvery is the minimum interval between two warnings of one kind.
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
	p.cfg.Logger.Warn(text, args...) //nolint:sloglint // all callers pass a constant
}
