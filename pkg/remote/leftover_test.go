package remote

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// place creates files that are that old.
func place(t *testing.T, age time.Duration, paths ...string) {
	t.Helper()
	at := time.Now().Add(-age)
	for _, path := range paths {
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
}

func checkGone(t *testing.T, gone bool, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) != gone {
			t.Errorf("%s: %v, want it gone: %v", path, err, gone)
		}
	}
}

// Temporary files of killed processes, some with keys, are removed from the state
// directory: under its lock, when they are old, and nothing else.
func TestLeftoversOfTheState(t *testing.T) {
	e := newEvil(t)
	s := e.enrolled(t)
	all := []string{
		s.path(".key.pem12"), s.path(".key.pem.next3"), s.path(".identity.age4"), s.path(".identity.age-5"),
		s.path(".identity-old.age6"), s.path(".remote.json7"), s.path(".remote.json.next8"),
	}
	others := []string{s.path(".other9"), s.path(".key.pem.bak1"), s.path("key.pem1"), s.path(".key.pem")}
	run := func() {
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := Run(ctx, RunConfig{State: s, Logger: slog.New(slog.DiscardHandler)}); err != nil {
			t.Error(err)
		}
	}
	place(t, 2*time.Hour, append(all, others...)...)
	unlock, err := lock(t.Context(), s.path(lockName))
	if err != nil {
		t.Fatal(err)
	}
	run()
	checkGone(t, false, all...) // another process is at work
	unlock()
	run()
	checkGone(t, true, all...)
	checkGone(t, false, others...)
	checkGone(t, false, s.path(keyName), s.path(identityName), s.path(enrolmentName))
	place(t, time.Minute, all...) // another process may be writing them
	if _, err := s.Rekey(t.Context(), ""); err == nil {
		t.Error("this proxy knows no rekey")
	}
	checkGone(t, false, all...)
	place(t, 2*time.Hour, all...)
	_, _ = s.Rekey(t.Context(), "")
	checkGone(t, true, all...)
}

// Those of a certificate go before the next order and when it is forgotten.
// Those of other certificates, which have other locks, stay.
func TestLeftoversOfACertificate(t *testing.T) {
	s := newEvil(t).enrolled(t)
	w := want(t, s, clients.ModeGateway)
	if err := s.remember(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	k, err := s.loadKept(w)
	if err != nil {
		t.Fatal(err)
	}
	dir, base := filepath.Split(k.path)
	own, other := filepath.Join(dir, "."+base+"123"), filepath.Join(dir, ".0123456789abcdef01234567.json5")
	place(t, 2*time.Hour, own, other)
	if err := k.checkStorable(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkGone(t, true, own)
	checkGone(t, false, other, k.path)
	place(t, time.Minute, own)
	if err := k.checkStorable(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkGone(t, false, own)
	place(t, 2*time.Hour, own)
	if _, err := s.Forget(t.Context(), k, ForgetOptions{}); err != nil {
		t.Fatal(err)
	}
	checkGone(t, true, own, k.path)
	checkGone(t, false, other)
}

// At its start, the daemon removes the leftovers of all certificates, also of one that
// was never stored, but none of a process that holds the lock.
func TestLeftoversOfAllCertificates(t *testing.T) { // X43
	s := newEvil(t).enrolled(t)
	dir := filepath.Join(s.Dir, certificatesName)
	const first, second = "0123456789abcdef01234567", "fedcba9876543210fedcba98"
	all := []string{filepath.Join(dir, first+".reserved"), filepath.Join(dir, "."+first+".json123"), filepath.Join(dir, "."+first+".reserved5")}
	others := []string{filepath.Join(dir, "a.reserved"), filepath.Join(dir, first+".reserved.bak"), filepath.Join(dir, "."+first+".json")}
	busy := filepath.Join(dir, second+".reserved")
	unlock, err := tryLock(filepath.Join(dir, second+".lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	run := func() {
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := Run(ctx, RunConfig{State: s, Logger: slog.New(slog.DiscardHandler)}); err != nil {
			t.Error(err)
		}
	}
	place(t, time.Minute, all...)
	run()
	checkGone(t, false, all...)
	place(t, 2*time.Hour, append(all, append(others, busy)...)...)
	run()
	checkGone(t, true, all...)
	checkGone(t, false, append(others, busy)...)
}

// A file of the state is written in its own folder, not in /tmp.
func TestStateIsWrittenInItsFolder(t *testing.T) {
	tmp, dir := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", tmp)
	changed := func(path string) time.Time {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(tmp, old, old); err != nil {
		t.Fatal(err)
	}
	if err := writeState(filepath.Join(dir, keyName), []byte("secret")); err != nil {
		t.Fatal(err)
	}
	if now := changed(tmp); !now.Equal(old) {
		t.Errorf("something was written to %s at %v", tmp, now)
	}
}
