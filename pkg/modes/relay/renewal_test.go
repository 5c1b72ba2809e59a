package relay

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
)

// informer is a CA that says when to renew. If hold is set, each question waits for it.
type informer struct {
	CA
	asked   atomic.Int64
	arrived chan string
	hold    chan struct{}
	info    issuer.RenewalInfo
	err     error
}

func (*informer) HasCA(string) bool { return true }

func (f *informer) RenewalInfo(ctx context.Context, _, id string) (issuer.RenewalInfo, error) {
	f.asked.Add(1)
	if f.hold != nil {
		f.arrived <- id
		<-f.hold
	}
	if _, ok := ctx.Deadline(); !ok {
		return issuer.RenewalInfo{}, errors.New("without a time limit")
	}
	return f.info, errors.Join(ctx.Err(), f.err)
}

func newInformer(t *testing.T) (*rig, *informer) {
	r := newRig(t)
	ca := &informer{arrived: make(chan string), info: issuer.RenewalInfo{
		Start: r.now.Add(time.Hour), End: r.now.Add(2 * time.Hour), RetryAfter: 6 * time.Hour,
	}}
	r.cfg.CA = func() (CA, func()) { return ca, func() {} }
	return r, ca
}

func (r *rig) window(ctx context.Context, t *testing.T, id string) acmeserver.RenewalInfo {
	t.Helper()
	info, err := r.RenewalInfo(ctx, acmeserver.Certificate{ARIID: id, NotBefore: r.now, NotAfter: r.now.Add(90 * 24 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// Strangers who leave before the answer cause one question for each certificate and pause.
// The answer is the CA's, not that the stranger left (X4).
func TestOneQuestionOfManyStrangers(t *testing.T) {
	t.Parallel()
	r, ca := newInformer(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 5 {
		if got := r.window(gone, t, "a"); !got.Start.Equal(ca.info.Start) || got.RetryAfter != 6*time.Hour {
			t.Errorf("window %+v", got)
		}
	}
	if n := ca.asked.Load(); n != 1 {
		t.Errorf("%d questions", n)
	}
	r.now = r.now.Add(6 * time.Hour)
	ca.err = errors.New("away")
	for range 5 { // the last answer holds
		if got := r.window(gone, t, "a"); !got.Start.Equal(ca.info.Start) || got.RetryAfter != afterFailure {
			t.Errorf("window %+v", got)
		}
	}
	if n := ca.asked.Load(); n != 2 {
		t.Errorf("%d questions", n)
	}
}

// While a question is in progress, the same certificate causes no other one and takes no
// further place. Other certificates can be asked for (X4).
func TestOneQuestionAtATime(t *testing.T) {
	t.Parallel()
	r, ca := newInformer(t)
	ca.hold = make(chan struct{})
	answers := make(chan acmeserver.RenewalInfo, 2)
	for _, id := range []string{"a", "b"} {
		go func() { answers <- r.window(t.Context(), t, id) }()
		if got := <-ca.arrived; got != id {
			t.Errorf("question about %q", got)
		}
		for range questions {
			if got := r.window(t.Context(), t, id); got.Start.Equal(ca.info.Start) || got.RetryAfter != placeholder {
				t.Errorf("placeholder %+v", got)
			}
		}
	}
	close(ca.hold)
	for range 2 {
		if got := <-answers; !got.Start.Equal(ca.info.Start) {
			t.Errorf("window %+v", got)
		}
	}
	if got := r.window(t.Context(), t, "a"); !got.Start.Equal(ca.info.Start) || ca.asked.Load() != 2 {
		t.Errorf("window %+v, %d questions", got, ca.asked.Load())
	}
}
