package work_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// once is a Source with one piece of work.
type once struct{ done bool }

func (o *once) Claim(context.Context, int) ([]work.Job, error) {
	if o.done {
		return nil, nil
	}
	o.done = true
	return []work.Job{func(context.Context) { fmt.Println("renewed") }}, nil
}

func (o *once) Next(context.Context) (time.Time, error) { return time.Time{}, managed.ErrNotFound }

func ExampleLoop_Tick() {
	loop := work.NewLoop(&once{}, 4, time.Now, slog.New(slog.DiscardHandler))
	if err := loop.Tick(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output: renewed
}
