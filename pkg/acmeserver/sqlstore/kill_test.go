package sqlstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/sqlstore"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// The variables of a child, which is this test's program.
const (
	childPath = "SQLSTORE_TEST_PATH"
	childURL  = "SQLSTORE_TEST_URL"
	childName = "SQLSTORE_TEST_NAME"
)

// What a storage acknowledged before kill -9 is there after it: a nonce stays used, an
// order has its state, and a certificate was collected (C3, C12, X7).
func TestKill(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]func(t *testing.T) sqldb.Config{
		"SQLite":     func(t *testing.T) sqldb.Config { return sqldb.Config{Path: filepath.Join(t.TempDir(), "acmed.db")} },
		"PostgreSQL": func(t *testing.T) sqldb.Config { return sqldb.Config{URL: pgtest.Start(t).Database(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			at := at(t)
			closing(t, open(t, at))
			for round := range 4 {
				done := killChild(t, at, fmt.Sprintf("r%d", round), 20+50*round)
				db := open(t, at)
				for _, line := range done {
					checkAfterKill(t, sqlstore.New(db), line)
				}
				closing(t, db)
			}
		})
	}
}

// killChild starts a child and kills it when it has written some lines. It returns all
// that the child wrote.
func killChild(t *testing.T, at sqldb.Config, name string, lines int) (done []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childPath+"="+at.Path, childURL+"="+at.URL, childName+"="+name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		done = append(done, scanner.Text())
		if len(done) == lines {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || len(done) < lines {
		t.Fatalf("the child ended early, after %d lines: %v", len(done), err)
	}
	return done
}

// TestChild writes to the storage without end, from several callers, and a line for each
// change that the storage acknowledged.
func TestChild(t *testing.T) {
	name := os.Getenv(childName)
	if name == "" {
		return // it is not a child
	}
	db := open(t, sqldb.Config{Path: os.Getenv(childPath), URL: os.Getenv(childURL)})
	s := sqlstore.New(db)
	ctx, expires := context.Background(), time.Unix(4102444800, 0)
	var callers errgroup.Group
	for caller := range 4 {
		callers.Go(func() error {
			for n := 0; ; n++ {
				id := fmt.Sprintf("%s-%d-%d", name, caller, n)
				o := acmeserver.Order{ID: id, AccountID: "a", Status: acmeserver.StatusProcessing, Share: id, Expires: expires, Version: 1}
				err := errors.Join(s.UseNonce(ctx, id, expires), say("nonce", id), s.CreateOrder(ctx, o, 0), say("1", id))
				o.Issuing, o.State = true, []byte("upstream")
				err = errors.Join(err, s.UpdateOrder(ctx, o), say("2", id))
				o.Version++
				o.Status, o.Issuing = acmeserver.StatusValid, false
				c := acmeserver.Certificate{ID: id, Fingerprint: id, NotAfter: expires}
				if err = errors.Join(err, s.CompleteOrder(ctx, o, c), say("3", id), s.SetCollected(ctx, id), say("collected", id)); err != nil {
					return err
				}
			}
		})
	}
	t.Fatal(callers.Wait())
}

// say writes a line, in one call, so that it is whole.
func say(what, id string) error {
	_, err := os.Stdout.WriteString(what + " " + id + "\n")
	return err
}

// checkAfterKill checks a change that the child wrote down.
func checkAfterKill(t *testing.T, s *sqlstore.Store, line string) {
	t.Helper()
	ctx := t.Context()
	what, id, _ := strings.Cut(line, " ")
	if what == "nonce" {
		if err := s.UseNonce(ctx, id, time.Unix(4102444800, 0)); !errors.Is(err, acmeserver.ErrExists) {
			t.Errorf("%s: the nonce can be used again: %v", line, err)
		}
		return
	}
	o, err := s.Order(ctx, id)
	if err != nil {
		t.Errorf("%s: %v", line, err)
		return
	}
	var c acmeserver.Certificate
	if what == "3" || what == "collected" {
		if c, err = s.CertificateByID(ctx, id); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	switch {
	case o.Version >= 2 && string(o.State) != "upstream", fmt.Sprint(o.Version) < what && what < "4", what == "collected" && !c.Collected:
		t.Errorf("%s: the storage has %+v and %+v", line, o, c)
	case o.Issuing != (o.Version == 2), (o.Status == acmeserver.StatusValid) != (o.Version == 3):
		t.Errorf("%s: half a change: %+v", line, o)
	}
}
