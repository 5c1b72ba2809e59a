package cmd

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// progress shows the events of an issuance: one live line on a terminal, a line
// for each event elsewhere.
type progress struct {
	w     io.Writer
	label string
	live  *liveLine // if nil, prints lines
	// columns is the width of a terminal that is too narrow for a live line, or 0.
	columns int
}

// newProgress returns a progress display for about so many events.
func newProgress(w io.Writer, label string, events int) *progress {
	p := &progress{w: w, label: printable.Line(label)}
	f := printable.File(w)
	if f == nil || !term.IsTerminal(int(f.Fd())) {
		return p
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil || columns == 0 {
		columns = 80
	}
	if columns < minColumns {
		p.columns = columns
		return p
	}
	p.live = newLiveLine(f, columns, p.label, events)
	return p
}

// stageText describes the stages to users.
var stageText = map[acme.Stage]string{
	acme.Queued:       "waiting for a free slot at the proxy",
	acme.Ordering:     "ordering at the CA",
	acme.Publishing:   "publishing the answer for",
	acme.Challenge:    "asked the CA to validate",
	acme.Validating:   "the CA is validating",
	acme.Finalizing:   "validated, sending the CSR",
	acme.Issuing:      "the CA is signing",
	acme.Issued:       "issued",
	remote.Registered: "registered for renewal at the proxy",
	remote.Waiting:    "waiting for the proxy to obtain it",
	remote.Locked:     "asking for one sealed to this host",
}

func (p *progress) event(e acme.Event) {
	text, ok := stageText[e.Stage]
	if !ok {
		text = printable.Line(string(e.Stage))
	}
	long := text
	if e.Identifier != "" {
		long += " " + printable.Line(e.Identifier)
	}
	if p.live == nil {
		printable.Fprintf(p.w, "%s\n", printable.Exact(wrap(p.label+": "+long, p.columns)))
		return
	}
	p.live.next(p.label+": "+long, long, text)
}

// done removes the live line.
func (p *progress) done() {
	if p.live != nil {
		p.live.close()
	}
}

// liveLine shows a bar with a text and the elapsed time, which it updates every
// second.
type liveLine struct {
	bar     *progressbar.ProgressBar
	columns int // width of the text
	stop    chan struct{}
	ticking sync.WaitGroup
}

const (
	barColumns  = 10
	restColumns = 32 // maximum width of percent, count, time and separators
	minColumns  = 60 // of a terminal with a live line
)

func newLiveLine(f *os.File, columns int, text string, events int) *liveLine {
	l := &liveLine{columns: columns - barColumns - restColumns, stop: make(chan struct{})}
	l.bar = progressbar.NewOptions(events,
		progressbar.OptionSetWriter(f),
		progressbar.OptionSetWidth(barColumns),
		progressbar.OptionSetDescription(fit(l.columns, text, "requesting")),
		progressbar.OptionShowCount(),
		progressbar.OptionSetElapsedTime(true),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetRenderBlankState(true),
	)
	l.ticking.Go(l.tick)
	return l
}

// next shows the first of the texts that fits and advances the bar by one step.
func (l *liveLine) next(texts ...string) {
	l.bar.Describe(fit(l.columns, texts...))
	_ = l.bar.Add(1) // an error means more steps than expected
}

func (l *liveLine) tick() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			_ = l.bar.Add(0) // draws the time
		case <-l.stop:
			return
		}
	}
}

func (l *liveLine) close() {
	close(l.stop)
	l.ticking.Wait()
	_ = l.bar.Finish()
}
