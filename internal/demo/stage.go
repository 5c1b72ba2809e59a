//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stage is where the story plays: a folder, the programs on it, the transcript.
type stage struct {
	ctx    context.Context //nolint:containedctx // the play's, from curtain to curtain
	out    io.Writer
	dir    string // everything is below it, and goes with it
	binary string
	env    []string // of every acmeproxy
	stops  []func()
}

func newStage(ctx context.Context, out io.Writer) (*stage, error) {
	binary, err := filepath.Abs("bin/acmeproxy")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("%s is not built; run make demo", binary)
	}
	dir, err := os.MkdirTemp("", "acmeproxy-demo-")
	if err != nil {
		return nil, err
	}
	s := &stage{ctx: ctx, out: out, dir: dir, binary: binary}
	s.stops = append(s.stops, func() { os.RemoveAll(dir) })
	return s, nil
}

// close stops what runs, the newest first, and removes the folder.
func (s *stage) close() {
	for i := len(s.stops) - 1; i >= 0; i-- {
		s.stops[i]()
	}
	s.stops = nil
}

func (s *stage) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *stage) chapter(title string) {
	fmt.Fprintf(s.out, "\n%s\n%s\n", title, strings.Repeat("─", len([]rune(title))))
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(s.out, "  "+format+"\n", args...) }

// run plays one acmeproxy command on a host and shows it with its output.
func (s *stage) run(host string, args ...string) (string, error) {
	s.show(host, args)
	return s.quiet(s.out, args...)
}

// quiet runs a command; its output goes to w, too.
func (s *stage) quiet(w io.Writer, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Minute)
	defer cancel()
	var stdout bytes.Buffer
	c := exec.CommandContext(ctx, s.binary, args...)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 30 * time.Second
	c.Env = s.env
	indented := &indent{w: w, start: true}
	c.Stdout = io.MultiWriter(&stdout, indented)
	c.Stderr = indented
	err := c.Run()
	if err != nil {
		err = fmt.Errorf("acmeproxy %s: %w", strings.Join(args, " "), err)
	}
	return stdout.String(), err
}

func (s *stage) show(host string, args []string) {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = a
		if strings.HasPrefix(a, "apx1-") {
			words[i] = a[:12] + "…"
		}
		if strings.ContainsAny(a, " *'") {
			words[i] = "'" + a + "'"
		}
	}
	fmt.Fprintf(s.out, "  %s$ acmeproxy %s\n", host, strings.ReplaceAll(strings.Join(words, " "), s.dir+"/", ""))
}

// start runs a command in the background until close. Its log goes to a file.
func (s *stage) start(host, logName string, args ...string) error {
	s.show(host, append(append([]string{}, args...), "&"))
	log, err := os.Create(s.path(logName))
	if err != nil {
		return err
	}
	c := exec.Command(s.binary, args...) //nolint:noctx // close ends it, in its own order
	c.Env, c.Stdout, c.Stderr = s.env, log, log
	// Ctrl-C goes to us; we stop what we started in our own order.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		return errors.Join(err, log.Close())
	}
	exited := make(chan struct{})
	go func() {
		_ = c.Wait() // why it ended is in its log
		close(exited)
	}()
	s.stops = append(s.stops, func() {
		_ = c.Process.Signal(syscall.SIGTERM) // it may be gone already
		select {
		case <-exited:
		case <-time.After(30 * time.Second):
			_ = c.Process.Kill()
			<-exited
		}
		log.Close()
	})
	return nil
}

// until waits for a condition, at most a minute.
func (s *stage) until(what string, ok func() bool) error {
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(s.path("serve.log"))
			return fmt.Errorf("timeout: waited until %s; the proxy's log:\n%s", what, log)
		case <-t.C:
		}
	}
	return nil
}

// indent puts blanks before each line.
type indent struct {
	w     io.Writer
	start bool
}

func (i *indent) Write(p []byte) (int, error) {
	var b bytes.Buffer
	for _, c := range p {
		if i.start {
			b.WriteString("      ")
		}
		b.WriteByte(c)
		i.start = c == '\n'
	}
	_, err := i.w.Write(b.Bytes())
	return len(p), err
}
