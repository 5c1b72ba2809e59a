package renewal_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/renewal"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// endless is a Mode whose work never ends; it counts what was begun.
type endless struct {
	mu    sync.Mutex
	begun map[string]int // by client; guarded by mu
}

func (e *endless) Delivery(ctx context.Context, m managed.Certificate) (renewal.Delivery, error) {
	e.mu.Lock()
	e.begun[m.ClientID]++
	e.mu.Unlock()
	<-ctx.Done()
	return renewal.Delivery{}, ctx.Err()
}

func (*endless) Settled(context.Context, managed.Outcome) {}

func (e *endless) of(client string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.begun[client]
}

// A client whose work does not end has no more than half of the places for all.
// Work of other clients, and of the proxy itself, begins when it is due (X42).
func TestQueueShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "db")})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		client := func(name string) string {
			c, err := s.CreateClient(t.Context(), clients.Client{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			return c.ID
		}
		want := func(client string, n int) {
			for i := range n {
				names := []string{fmt.Sprintf("n%d.%s.example", i, client)}
				if _, _, err := s.EnsureManaged(t.Context(), managed.Certificate{ClientID: client, Mode: "test", Names: names, KeyType: "ec256"}); err != nil {
					t.Fatal(err)
				}
			}
		}
		hostile := []string{client("hostile1"), client("hostile2"), client("hostile3")}
		for _, id := range hostile {
			want(id, 64)
		}
		mode := &endless{begun: map[string]int{}}
		q := renewal.NewQueue(renewal.Config{
			Store: s, Owner: "me", Logger: slog.New(slog.DiscardHandler), Now: time.Now, Modes: map[clients.Mode]renewal.Mode{"test": mode},
		})
		l := work.NewLoop(q, renewal.Workers, time.Now, slog.New(slog.DiscardHandler))
		stop := watch.Run(t, l.Run)
		defer stop()
		synctest.Wait()
		all := 0
		for _, id := range hostile {
			n := mode.of(id)
			if all += n; n < 1 || n > 32 {
				t.Errorf("%d of a hostile client are worked on, want 1 to 32", n)
			}
		}
		if all > 65 { // one of them takes its own place from the reserve at most
			t.Errorf("%d of hostile clients are worked on", all)
		}
		good := client("good")
		want(good, 2)
		want("", 1)
		l.Wake()
		synctest.Wait()
		if mode.of(good) != 1 || mode.of("") != 1 {
			t.Errorf("of the good client %d are worked on, of the proxy's own %d; want 1 each", mode.of(good), mode.of(""))
		}
		// Without being woken, another client's row is found soon.
		late := client("late")
		want(late, 1)
		time.Sleep(2 * time.Second) // synctest's time
		synctest.Wait()
		if mode.of(late) != 1 {
			t.Error("the row that became due later is not worked on")
		}
	})
}
