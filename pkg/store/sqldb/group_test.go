package sqldb

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

const insertT1 = `INSERT INTO t1 (id, text) VALUES ($1, $2)`

// grouped is [DB.Grouped], [DB.Unsynced] or [DB.Lazily].
type grouped = func(context.Context, func(context.Context, *sql.Tx) error) error

func put(ctx context.Context, db *DB, id int, then error) error {
	return putBy(ctx, db, db.Grouped, id, then)
}

func putBy(ctx context.Context, db *DB, write grouped, id int, then error) error {
	return db.Fail(write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, insertT1, id, "text"); err != nil {
			return err
		}
		return then
	}), "put %d", id)
}

// block keeps the writer busy until release is called.
func block(t *testing.T, db *DB) (release func()) {
	t.Helper()
	begun, end, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- db.Tx(context.Background(), func(*sql.Tx) error { close(begun); <-end; return nil })
	}()
	<-begun
	return func() {
		close(end)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// untilWaiting returns once n functions wait for the writer.
func untilWaiting(db *DB, n int) {
	for {
		db.group.mu.Lock()
		waiting := len(db.group.waiting)
		db.group.mu.Unlock()
		if waiting == n {
			return
		}
		runtime.Gosched()
	}
}

func ids(t *testing.T, db *DB) []string {
	t.Helper()
	return texts(t, db, `SELECT CAST(id AS TEXT) FROM t1 ORDER BY id`)
}

// The error of one writer undoes its writes and no others.
func TestGroupedErrorsAreIsolated(t *testing.T) {
	eachDatabase(t, func(t *testing.T, at Config) {
		db := openParts(t, at, versions(1))
		run(t, db, insertT1, 1000, "taken")
		refused := errors.New("refused")
		const writers = 60
		errs := make([]error, writers)
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				switch i % 3 {
				case 0:
					errs[i] = put(t.Context(), db, i, nil)
				case 1:
					errs[i] = put(t.Context(), db, i, refused)
				case 2:
					errs[i] = put(t.Context(), db, 1000, nil)
				}
			})
		}
		wg.Wait()
		want := []string{"1000"}
		for i, err := range errs {
			if wanted := []error{nil, refused, managed.ErrConflict}[i%3]; !errors.Is(err, wanted) {
				t.Errorf("writer %d: %v, want %v", i, err, wanted)
			}
			if i%3 == 0 {
				want = append(want, strconv.Itoa(i))
			}
		}
		got := ids(t, db)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("rows %q, want %q", got, want)
		}
	})
}

// Functions run in the order of their calls, so many in one transaction and no more.
func TestGroupedKeepsOrderAndBound(t *testing.T) {
	db := openParts(t, Config{Path: filepath.Join(t.TempDir(), "acmeproxy.db")}, versions(1))
	release := block(t, db)
	var order []int // one function runs at a time
	var in []*sql.Tx
	var wg sync.WaitGroup
	const writers = maxGroup + 10
	for i := range writers {
		wg.Go(func() {
			if err := db.Grouped(t.Context(), func(_ context.Context, tx *sql.Tx) error {
				order, in = append(order, i), append(in, tx)
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
		untilWaiting(db, i+1)
	}
	release()
	wg.Wait()
	if !slices.IsSorted(order) || len(order) != writers {
		t.Errorf("the order is %v", order)
	}
	inTx := map[*sql.Tx]int{}
	for _, tx := range in {
		inTx[tx]++
	}
	for _, n := range inTx {
		if n > maxGroup {
			t.Errorf("%d functions in one transaction", n)
		}
	}
	if len(inTx) < 2 || len(inTx) > writers/2 {
		t.Errorf("%d transactions", len(inTx))
	}
}

// A caller that stops waiting does so at once, its function never runs, and the
// others are served. One whose function has begun learns the outcome.
func TestGroupedCanceled(t *testing.T) {
	db := openParts(t, Config{Path: filepath.Join(t.TempDir(), "acmeproxy.db")}, versions(1))
	release := block(t, db)
	ctx, cancel := context.WithCancel(t.Context())
	stopped, stays := make(chan error, 1), make(chan error, 1)
	go func() { stopped <- put(ctx, db, 1, nil) }()
	untilWaiting(db, 1)
	go func() { stays <- put(t.Context(), db, 2, nil) }()
	untilWaiting(db, 2)
	cancel()
	if err := <-stopped; !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	release()
	if err := <-stays; err != nil {
		t.Error(err)
	}
	if err := put(ctx, db, 3, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled before the call: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	if err := db.Grouped(ctx, func(inside context.Context, tx *sql.Tx) error {
		cancel()
		_, err := tx.ExecContext(inside, insertT1, 4, "text")
		return err
	}); err != nil {
		t.Errorf("canceled while it ran: %v", err)
	}
	if got := ids(t, db); !slices.Equal(got, []string{"2", "4"}) {
		t.Errorf("rows %q", got)
	}
}

// A statement that ends the whole transaction, as a full disk does, fails all that
// ran in it, and none of them is told that it succeeded.
func TestGroupedLostTransaction(t *testing.T) {
	db := openParts(t, Config{Path: filepath.Join(t.TempDir(), "acmeproxy.db")}, versions(1))
	release := block(t, db)
	errs := make([]chan error, 3)
	for i := range errs {
		errs[i] = make(chan error, 1)
		go func() {
			errs[i] <- db.Grouped(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
				query := insertT1
				if i == 1 {
					query = `INSERT OR ROLLBACK INTO t1 (id, text) VALUES ($1, NULL), (NULL, $2)`
				}
				_, err := tx.ExecContext(ctx, query, i, "text")
				return err
			})
		}()
		untilWaiting(db, i+1)
	}
	release()
	for i, c := range errs {
		if err := <-c; (err == nil) != (i == 2) || i == 0 && !errors.Is(err, errGroup) {
			t.Errorf("writer %d: %v", i, err)
		}
	}
	if got := ids(t, db); !slices.Equal(got, []string{"2"}) {
		t.Errorf("rows %q", got)
	}
}

// An unsynced function's error undoes its own writes only.
func TestUnsynced(t *testing.T) {
	eachDatabase(t, func(t *testing.T, at Config) {
		db := openParts(t, at, versions(1))
		refused := errors.New("refused")
		for i, then := range []error{nil, refused, nil} {
			if err := putBy(t.Context(), db, db.Unsynced, i, then); !errors.Is(err, then) {
				t.Errorf("writer %d: %v", i, err)
			}
		}
		if got := ids(t, db); !slices.Equal(got, []string{"0", "2"}) {
			t.Errorf("rows %q", got)
		}
	})
}

// A function that must be synced is never in an unsynced transaction.
func TestUnsyncedTransactions(t *testing.T) {
	db := openParts(t, Config{Path: filepath.Join(t.TempDir(), "acmeproxy.db")}, versions(1))
	const normal, full = 1, 2 // sqlite.org/pragma.html#pragma_synchronous
	var order, levels []int   // one function runs at a time
	var in []*sql.Tx
	write := func(i int) func(context.Context, *sql.Tx) error {
		return func(ctx context.Context, tx *sql.Tx) error {
			level := 0
			err := tx.QueryRowContext(ctx, `PRAGMA synchronous`).Scan(&level)
			order, in, levels = append(order, i), append(in, tx), append(levels, level)
			return err
		}
	}
	release := block(t, db)
	var wg sync.WaitGroup
	for i, call := range []grouped{db.Unsynced, db.Unsynced, db.Grouped, db.Unsynced} {
		wg.Go(func() {
			if err := call(t.Context(), write(i)); err != nil {
				t.Error(err)
			}
		})
		untilWaiting(db, i+1)
	}
	release()
	wg.Wait()
	if !slices.IsSorted(order) || len(in) != 4 {
		t.Fatalf("order %v", order)
	}
	if in[0] != in[1] || in[1] == in[2] || in[2] != in[3] {
		t.Errorf("transactions %v", in)
	}
	if !slices.Equal(levels, []int{normal, normal, full, full}) {
		t.Errorf("synchronous was %v", levels)
	}
	if err := db.Tx(t.Context(), func(tx *sql.Tx) error { return write(4)(t.Context(), tx) }); err != nil || levels[4] != full {
		t.Errorf("synchronous is %v afterwards, %v", levels, err)
	}
}

// A lazy function is in the transaction of the next one, whatever that is, and in its own
// if none follows.
func TestLazily(t *testing.T) {
	db := openParts(t, Config{Path: filepath.Join(t.TempDir(), "acmeproxy.db")}, versions(1))
	var in []*sql.Tx // one function runs at a time
	write := func(_ context.Context, tx *sql.Tx) error { in = append(in, tx); return nil }
	db.group.lazyTime = time.Hour
	for _, call := range []grouped{db.Grouped, db.Unsynced} {
		in = nil
		release := block(t, db)
		var wg sync.WaitGroup
		for i, call := range []grouped{db.Lazily, call, db.Lazily} {
			wg.Go(func() {
				if err := call(t.Context(), write); err != nil {
					t.Error(err)
				}
			})
			untilWaiting(db, i+1)
		}
		release()
		wg.Wait()
		if len(in) != 3 || in[0] != in[1] || in[1] != in[2] {
			t.Errorf("transactions %v", in)
		}
	}
	db.group.lazyTime = time.Millisecond
	if err := db.Lazily(t.Context(), write); err != nil || len(in) != 4 {
		t.Errorf("alone: %v, %v", in, err)
	}
	refused := errors.New("refused")
	eachDatabase(t, func(t *testing.T, at Config) {
		db := openParts(t, at, versions(1))
		for i, then := range []error{nil, refused, nil} {
			if err := putBy(t.Context(), db, db.Lazily, i, then); !errors.Is(err, then) {
				t.Errorf("writer %d: %v", i, err)
			}
		}
		if got := ids(t, db); !slices.Equal(got, []string{"0", "2"}) {
			t.Errorf("rows %q", got)
		}
	})
}

func TestGroupedPanic(t *testing.T) {
	db := openParts(t, Config{Path: filepath.Join(t.TempDir(), "acmeproxy.db")}, versions(1))
	func() {
		defer func() {
			if got := recover(); got != "a fault" {
				t.Errorf("recovered %v", got)
			}
		}()
		_ = db.Grouped(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, insertT1, 1, "text"); err != nil {
				return err
			}
			panic("a fault")
		})
	}()
	if err := put(t.Context(), db, 2, nil); err != nil {
		t.Error(err)
	}
	if got := ids(t, db); !slices.Equal(got, []string{"2"}) {
		t.Errorf("rows %q", got)
	}
}

func TestGroupedAfterClose(t *testing.T) {
	db := openParts(t, Config{Path: filepath.Join(t.TempDir(), "acmeproxy.db")}, versions(1))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), db, 1, nil); err == nil {
		t.Error("a closed database was written")
	}
}

// What was acknowledged is there after the process was killed.
func TestGroupedSurvivesKill(t *testing.T) {
	const writers = 16
	if path := os.Getenv("SQLDB_TEST_GROUP"); path != "" {
		db, err := Open(t.Context(), Config{Path: path, Parts: []Part{versions(1)}})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for w := range writers {
			write := []grouped{db.Grouped, db.Unsynced}[w%2]
			wg.Go(func() {
				for id := w; ; id += writers { // until it is killed
					if err := putBy(t.Context(), db, write, id, nil); err != nil {
						t.Error(err)
						return
					}
					fmt.Printf("stored %d\n", id)
				}
			})
		}
		wg.Wait()
		return
	}
	path := filepath.Join(t.TempDir(), "acmeproxy.db")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestGroupedSurvivesKill$")
	cmd.Env = append(os.Environ(), "SQLDB_TEST_GROUP="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "stored "); ok {
			if acknowledged = append(acknowledged, id); len(acknowledged) == 300 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		} else if len(acknowledged) == 0 {
			t.Log(lines.Text())
		}
	}
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait() // it was killed
	if len(acknowledged) < 300 {
		t.Fatalf("%d writes were acknowledged", len(acknowledged))
	}
	db := openParts(t, Config{Path: path}, versions(1))
	stored := ids(t, db)
	have := make(map[string]bool, len(stored))
	for _, id := range stored {
		have[id] = true
	}
	for _, id := range acknowledged {
		if !have[id] {
			t.Errorf("%s was acknowledged and is not stored", id)
		}
	}
	t.Logf("%d acknowledged, %d stored", len(acknowledged), len(stored))
}
