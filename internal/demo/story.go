//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// The hosts of the story.
const (
	dmz  = "dmz"
	web1 = "web1"
	web2 = "web2"
)

type story struct {
	*stage
	ca   *pebbletest.Process
	api  string
	seen map[string][]byte // the proxy's disk at the last look
}

func play(ctx context.Context, out io.Writer) error {
	began := time.Now()
	set, err := newStage(ctx, out)
	if err != nil {
		return err
	}
	defer set.close()
	s := &story{stage: set}
	for _, scene := range []func() error{s.openCA, s.acmeClient, s.agent, s.gateway, s.acmeDoor, s.refusals} {
		if err := scene(); err != nil {
			return err
		}
	}
	s.chapter("The end")
	s.say("all three modes and an ACME client worked in %.1f s; stopping everything and removing %s", time.Since(began).Seconds(), s.dir)
	return nil
}

// openCA starts Pebble and challtestsrv: the Internet of this story.
func (s *story) openCA() error {
	s.chapter("The Internet: a real ACME CA")
	ca, stop, err := pebbletest.Run(s.ctx, pebbletest.ProcessOptions{})
	if err != nil {
		return err
	}
	s.stops = append(s.stops, stop)
	s.ca = ca
	https, err := pebbletest.FreePort()
	if err != nil {
		return err
	}
	s.api = fmt.Sprintf("https://127.0.0.1:%d", https)
	s.env = append(os.Environ(),
		"LEGO_CA_CERTIFICATES="+ca.ServerCAFile,
		"ACMEPROXY_ACME_DIRECTORY_URL="+ca.DirectoryURL,
		fmt.Sprintf("ACMEPROXY_HTTP_ADDR=127.0.0.1:%d", ca.HTTPPort),
		fmt.Sprintf("ACMEPROXY_HTTPS_ADDR=127.0.0.1:%d", https),
		"ACMEPROXY_DATA_DIR="+s.path(dmz),
	)
	s.say("Pebble, Let's Encrypt's test CA, takes orders at %s", ca.DirectoryURL)
	s.say("It validates over HTTP at port %d (its port 80), where only the DMZ host listens.", ca.HTTPPort)
	s.say("DNS (challtestsrv) points every name at that host.")
	return nil
}

// acmeClient is the first mode: the proxy's own host.
func (s *story) acmeClient() error {
	s.chapter("acme-client: the DMZ host gets a certificate for itself")
	hook := `echo "hook: $ACMEPROXY_NAMES, serial $ACMEPROXY_SERIAL, files in $ACMEPROXY_DIR" >> ` + s.path("hook.log")
	err := s.start(dmz, "serve.log", "serve", "--hostname", "proxy.example.test", "--accept-tos", "--certificate-obtained-hook", hook)
	if err != nil {
		return err
	}
	if err := s.until("the hook has run", func() bool { _, err := os.Stat(s.path("hook.log")); return err == nil }); err != nil {
		return err
	}
	text, err := os.ReadFile(s.path("hook.log"))
	if err != nil {
		return err
	}
	s.say("%s", strings.ReplaceAll(strings.TrimSpace(string(text)), s.dir+"/", ""))
	if err := s.inspect(s.path(dmz, "certs", "proxy.example.test"), "proxy.example.test"); err != nil {
		return err
	}
	return s.disk(dmz, nil)
}

// enroll makes a client on the proxy and enrols its host.
func (s *story) enroll(host string, addArgs ...string) error {
	args := append([]string{"clients", "add", host, "--url", s.api}, addArgs...)
	s.show(dmz, args)
	line, err := s.quiet(io.Discard, args...)
	if err != nil {
		return err
	}
	words := strings.Fields(line)
	if len(words) != 4 {
		return fmt.Errorf("clients add printed %d words", len(words))
	}
	s.say("    it prints one line for %s: %s %s %s %s…", host, words[0], words[1], words[2], words[3][:12])
	_, err = s.run(host, "remote", "enroll", words[3], "--state-dir", s.path(host))
	return err
}

func (s *story) agent() error {
	s.chapter("certificate-agent: the proxy obtains for web1, and cannot read what it keeps")
	if err := s.enroll(web1, "--allow", "web1.example.test,*.web1.example.test", "--mode", "agent"); err != nil {
		return err
	}
	out := s.path(web1, "ssl")
	if _, err := s.run(web1, "remote", "get", "web1.example.test", "www.web1.example.test", "--state-dir", s.path(web1), "--out", out); err != nil {
		return err
	}
	if err := s.inspect(out, "web1.example.test", "www.web1.example.test"); err != nil {
		return err
	}
	secrets, err := keyLines(out)
	if err != nil {
		return err
	}
	if err := s.disk(web1, secrets); err != nil {
		return err
	}
	return s.sealed(web1)
}

func (s *story) gateway() error {
	s.chapter("acme-gateway: web2 gets one through the proxy, which keeps nothing")
	if err := s.enroll(web2, "--allow", "**.corp.example.test", "--mode", "gateway"); err != nil {
		return err
	}
	out := s.path(web2, "ssl")
	if _, err := s.run(web2, "remote", "get", "payroll.corp.example.test", "--state-dir", s.path(web2), "--out", out); err != nil {
		return err
	}
	if err := s.inspect(out, "payroll.corp.example.test"); err != nil {
		return err
	}
	b, err := readSet(out)
	if err != nil {
		return err
	}
	secrets, err := keyLines(out)
	if err != nil {
		return err
	}
	secrets = append(secrets, secret{"the name", "payroll.corp.example.test"}, secret{"the serial number", b.Serial()})
	return s.disk(web2, secrets)
}

func (s *story) refusals() error {
	s.chapter("Requests without a grant are refused")
	_, err := s.run(web2, "remote", "get", "web1.example.test", "--state-dir", s.path(web2))
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		return fmt.Errorf("web2 asked for web1's name, and the exit code was not 3: %w", err)
	}
	_, err = s.run(dmz, "audit", "--limit", "6")
	return err
}

// inspect shows a certificate and checks it against the CA's root.
func (s *story) inspect(dir string, names ...string) error {
	want, err := cert.ParseNames(names...)
	if err != nil {
		return err
	}
	b, err := readSet(dir)
	if err != nil {
		return err
	}
	if err := verify(b, want, s.ca.RootsPEM); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	s.say("certificate  %s", want)
	s.say("  issuer     %s; the chain verifies against the CA's root, the key fits", b.Leaf.Issuer.CommonName)
	s.say("  valid      until %s", b.NotAfter().UTC().Format("2006-01-02 15:04 UTC"))
	s.say("  files      %s", strings.TrimPrefix(dir, s.dir+"/"))
	return nil
}
