package cmd

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// A terminal shows one live line, which never wraps and is removed at the end.
func TestProgressLiveLine(t *testing.T) {
	const columns = 60
	screen, tty := openTerminal(t, columns)
	p := newProgress(tty, "a-rather-long-name.example.com", 3)
	if p.live == nil {
		t.Fatal("the terminal was not noticed")
	}
	waitForText(t, screen, "(0/3)")
	p.event(acme.Event{Stage: acme.Challenge, Identifier: "a-rather-long-name.example.com"})
	waitForText(t, screen, "(1/3)")
	p.event(acme.Event{Stage: acme.Issuing})
	// The elapsed time advances while the CA works.
	waitForText(t, screen, "(2/3) [1s]")
	p.done()
	if _, err := fmt.Fprint(tty, "the end"); err != nil {
		t.Fatal(err)
	}
	text := waitForText(t, screen, "the end")

	if strings.Contains(text, "\n") {
		t.Errorf("more than one line: %q", text)
	}
	states := strings.Split(text, "\r")
	for _, state := range states {
		if n := utf8.RuneCountInString(state); n > columns {
			t.Errorf("a line of %d columns breaks on a terminal of %d: %q", n, columns, state)
		}
	}
	if last := states[len(states)-1]; last != "the end" {
		t.Errorf("the line is not gone before %q", last)
	}
	if before := states[len(states)-2]; strings.TrimSpace(before) != "" {
		t.Errorf("the last line was not wiped but left as %q", before)
	}
}

// openTerminal creates a pseudo terminal: the side of programs and that of the user.
func openTerminal(t *testing.T, columns uint16) (screen <-chan string, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("SKIP: no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: columns}); err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	seen := make(chan string, 100)
	go func() {
		defer close(seen)
		var all strings.Builder
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			if err != nil {
				return
			}
			all.Write(buf[:n])
			seen <- all.String()
		}
	}()
	return seen, tty
}

// waitForText waits until the screen's output contains want, and returns the output.
func waitForText(t *testing.T, screen <-chan string, want string) string {
	t.Helper()
	var text string
	deadline := time.After(30 * time.Second)
	for {
		select {
		case text = <-screen:
			if strings.Contains(text, want) {
				return text
			}
		case <-deadline:
			t.Fatalf("%q did not come; the screen: %q", want, text)
		}
	}
}

// A terminal that is too narrow for a live line gets lines, which break between words.
func TestProgressOnNarrowTerminal(t *testing.T) {
	const columns = 40
	screen, tty := openTerminal(t, columns)
	p := newProgress(tty, "web1.example.com", 3)
	p.event(acme.Event{Stage: acme.Queued})
	p.event(acme.Event{Stage: acme.Challenge, Identifier: "web1.example.com"})
	p.done()
	text := waitForText(t, screen, "validate web1.example.com")
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, "\r\n"); utf8.RuneCountInString(line) > columns {
			t.Errorf("%q breaks on a terminal of %d columns", line, columns)
		}
	}
	if want := "web1.example.com: asked the CA to\r\n  validate web1.example.com"; !strings.Contains(text, want) {
		t.Errorf("%q; want %q", text, want)
	}
}
