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
}

// newProgress returns a progress display for about so many events.
func newProgress(w io.Writer, label string, events int) *progress {
	p := &progress{w: w, label: printable.Line(label)}
	if f := printable.File(w); f != nil && term.IsTerminal(int(f.Fd())) {
		p.live = newLiveLine(f, p.label, events)
	}
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
	remote.Registered: "registered, the proxy renews it from now on",
	remote.Waiting:    "waiting for the proxy to obtain it",
	remote.Locked:     "sealed before this host was enrolled, asking the proxy for a new one",
}

func (p *progress) event(e acme.Event) {
	text, ok := stageText[e.Stage]
	if !ok {
		text = string(e.Stage)
	}
	if e.Identifier != "" {
		text += " " + e.Identifier
	}
	if p.live == nil {
		printable.Fprintf(p.w, "%s: %s\n", p.label, text)
		return
	}
	p.live.next(p.label + ": " + printable.Line(text))
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
)

func newLiveLine(f *os.File, text string, events int) *liveLine {
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil || columns == 0 {
		columns = 80
	}
	l := &liveLine{columns: max(columns-barColumns-restColumns, 8), stop: make(chan struct{})}
	l.bar = progressbar.NewOptions(events,
		progressbar.OptionSetWriter(f),
		progressbar.OptionSetWidth(barColumns),
		progressbar.OptionSetDescription(shorten(text, l.columns)),
		progressbar.OptionShowCount(),
		progressbar.OptionSetElapsedTime(true),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetRenderBlankState(true),
	)
	l.ticking.Go(l.tick)
	return l
}

// next shows another text and advances the bar by one step.
func (l *liveLine) next(text string) {
	l.bar.Describe(shorten(text, l.columns))
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

// shorten cuts text to so many columns. A live line that wraps cannot be removed.
func shorten(text string, columns int) string {
	r := []rune(text)
	if len(r) <= columns {
		return text
	}
	return string(r[:columns-1]) + "…"
}
