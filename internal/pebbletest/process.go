package pebbletest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrNotBuilt reports that the Pebble programs are missing.
var ErrNotBuilt = errors.New(".pebble/bin/pebble is not built; run make pebble / make test")

// ProcessOptions holds the settings of a [Process]. The zero value is a fast CA
// that accepts every account and injects no faults.
type ProcessOptions struct {
	// BinDir holds the programs pebble and pebble-challtestsrv. If empty, it is
	// .pebble/bin of the repository that contains the working directory.
	BinDir string
	// Net is the network of the programs. If nil, it is this host's loopback
	// interface.
	Net *Network
	// Port is the port of the ACME server. If 0, it is a free one. Set it to that of
	// a stopped Process to start a CA that has forgotten its accounts.
	Port int
	// HTTPPort is the port from which the CA fetches HTTP-01 answers, for every name.
	// If 0, it is a free one.
	HTTPPort int
	// RetryAfterAuthz and RetryAfterOrder are as in [Options].
	RetryAfterAuthz, RetryAfterOrder int
	// EAB is as in [Options].
	EAB map[string]string
	// Profiles are as in [Options].
	Profiles map[string]time.Duration
	// Env holds variables (name=value) for Pebble. They are added to the ones that
	// make it fast and reliable, and override those of the same name.
	Env []string
	// Log receives the output of Pebble and its DNS server. Both programs write to
	// it concurrently. If nil, [Process.Log] returns the end of the output.
	Log io.Writer
}

// Network is another network for the programs than this host's loopback interface,
// such as a network namespace. Other hosts must not be able to reach it.
type Network struct {
	// Host is the IPv4 address on which the programs listen.
	Host string
	// Target is the IPv4 address of every name, from which the CA fetches HTTP-01
	// answers.
	Target string
	// Command runs a program there, such as ip netns exec NAME. The program and its
	// arguments are appended. Command must replace itself with that program, so
	// that killing it ends the program.
	Command []string
	// Dial connects to the programs.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// loopback returns the default network.
func loopback() *Network {
	return &Network{Host: "127.0.0.1", Target: "127.0.0.1", Dial: (&net.Dialer{}).DialContext}
}

func (n *Network) addr(port int) string { return net.JoinHostPort(n.Host, strconv.Itoa(port)) }

// Process is a stock Pebble with its DNS server, each in its own process.
type Process struct {
	// DirectoryURL is the URL of the ACME directory.
	DirectoryURL string
	// ManagementURL is the URL of Pebble's management interface, without a
	// trailing slash.
	ManagementURL string
	// DNSManagementURL is the URL of the management interface of the DNS
	// server (pebble-challtestsrv), without a trailing slash.
	DNSManagementURL string
	// DNSAddr is the address of that server for DNS questions.
	DNSAddr string
	// RootsPEM holds the roots of the certificates that the CA issues.
	RootsPEM []byte
	// ServerCAPEM is the root of the ACME server's own certificate.
	ServerCAPEM []byte
	// ServerCAFile is a file with ServerCAPEM, for LEGO_CA_CERTIFICATES.
	ServerCAFile string
	// HTTPPort is the port from which the CA fetches HTTP-01 answers.
	HTTPPort int

	client *http.Client
	log    *tail
	dir    string
	cmds   []*command
}

// command is a program that runs in the background.
type command struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when the program has ended
	err  error         // result of Wait; set before done is closed
}

// Run starts Pebble and returns when it answers. The programs run until stop is
// called or ctx ends. stop must be called in both cases, and returns when they have
// ended. The error is [ErrNotBuilt] if the programs are missing.
func Run(ctx context.Context, o ProcessOptions) (p *Process, stop func(), err error) {
	if o.Net == nil {
		o.Net = loopback()
	}
	if o.BinDir == "" {
		if o.BinDir, err = binDir(); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range []string{"pebble", "pebble-challtestsrv"} {
		if _, err := os.Stat(filepath.Join(o.BinDir, name)); err != nil {
			return nil, nil, fmt.Errorf("%w (%w)", ErrNotBuilt, err)
		}
	}
	p = &Process{log: &tail{}}
	if o.Log == nil {
		o.Log = p.log
	}
	if err := p.start(ctx, o); err != nil {
		p.stop()
		if text := p.Log(); text != "" {
			err = fmt.Errorf("%w; its log:\n%s", err, text)
		}
		return nil, nil, err
	}
	return p, p.stop, nil
}

// HTTPClient returns a client that trusts the ACME server. All calls return
// the same one.
func (p *Process) HTTPClient() *http.Client { return p.client }

// Log returns the end of the programs' output, if ProcessOptions.Log was nil.
func (p *Process) Log() string { return p.log.String() }

func (p *Process) start(ctx context.Context, o ProcessOptions) error {
	var err error
	if p.dir, err = os.MkdirTemp("", "pebbletest-"); err != nil {
		return fmt.Errorf("create a directory for Pebble: %w", err)
	}
	ports, err := freePorts(6)
	if err != nil {
		return err
	}
	dns, dnsManagement, management, tlsPort := ports[0], ports[1], ports[2], ports[3]
	if o.Port == 0 {
		o.Port = ports[4]
	}
	if o.HTTPPort == 0 {
		o.HTTPPort = ports[5]
	}
	p.HTTPPort = o.HTTPPort
	p.DirectoryURL = "https://" + o.Net.addr(o.Port) + "/dir"
	p.ManagementURL = "https://" + o.Net.addr(management)
	p.DNSAddr = o.Net.addr(dns)
	p.DNSManagementURL = "http://" + o.Net.addr(dnsManagement)

	configFile, err := p.configure(o, management, tlsPort)
	if err != nil {
		return err
	}
	err = p.spawn(ctx, o, "pebble-challtestsrv", "-http01", "", "-https01", "", "-doh", "", "-tlsalpn01", "",
		"-dnsserver", o.Net.addr(dns), "-defaultIPv4", o.Net.Target, "-defaultIPv6", "",
		"-management", o.Net.addr(dnsManagement))
	if err != nil {
		return err
	}
	err = p.spawn(ctx, o, "pebble", "-config", configFile, "-dnsserver", o.Net.addr(dns))
	if err != nil {
		return err
	}
	return p.waitUntilReady(ctx, o.Net, o.Net.addr(dns))
}

// configFile holds the part of Pebble's configuration that is set here.
type configFile struct {
	ListenAddress                  string             `json:"listenAddress"`
	ManagementListenAddress        string             `json:"managementListenAddress"`
	Certificate                    string             `json:"certificate"`
	PrivateKey                     string             `json:"privateKey"`
	HTTPPort                       int                `json:"httpPort"`
	TLSPort                        int                `json:"tlsPort"`
	ExternalAccountBindingRequired bool               `json:"externalAccountBindingRequired"`
	ExternalAccountMACKeys         map[string]string  `json:"externalAccountMACKeys"`
	RetryAfter                     retryAfter         `json:"retryAfter"`
	KeyAlgorithm                   string             `json:"keyAlgorithm"`
	Profiles                       map[string]profile `json:"profiles"`
}

type retryAfter struct {
	Authz int `json:"authz"`
	Order int `json:"order"`
}

// configure writes Pebble's configuration and the files named in it. It returns the
// configuration's path.
func (p *Process) configure(o ProcessOptions, management, tlsPort int) (string, error) {
	cert, err := newServerCert(o.Net.Host)
	if err != nil {
		return "", err
	}
	p.ServerCAPEM = cert.caPEM
	p.ServerCAFile = filepath.Join(p.dir, "server-ca.pem")
	p.client = newClient(cert.caPEM, o.Net.Dial)
	config := configFile{
		ListenAddress:                  o.Net.addr(o.Port),
		ManagementListenAddress:        o.Net.addr(management),
		Certificate:                    filepath.Join(p.dir, "server-cert.pem"),
		PrivateKey:                     filepath.Join(p.dir, "server-key.pem"),
		HTTPPort:                       o.HTTPPort,
		TLSPort:                        tlsPort,
		ExternalAccountBindingRequired: o.EAB != nil,
		ExternalAccountMACKeys:         o.EAB,
		RetryAfter:                     retryAfter{Authz: o.RetryAfterAuthz, Order: o.RetryAfterOrder},
		KeyAlgorithm:                   "ecdsa",
		Profiles:                       configProfiles(o.Profiles),
	}
	configJSON, err := json.Marshal(map[string]configFile{"pebble": config})
	if err != nil {
		return "", fmt.Errorf("encode Pebble's configuration: %w", err)
	}
	path := filepath.Join(p.dir, "pebble.json")
	for name, data := range map[string][]byte{
		p.ServerCAFile:     cert.caPEM,
		config.Certificate: cert.certPEM,
		config.PrivateKey:  cert.keyPEM,
		path:               configJSON,
	} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return "", fmt.Errorf("write Pebble's configuration: %w", err)
		}
	}
	return path, nil
}

// spawn starts a program in the background.
func (p *Process) spawn(ctx context.Context, o ProcessOptions, name string, args ...string) error {
	argv := append(append(slices.Clone(o.Net.Command), filepath.Join(o.BinDir, name)), args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = os.Environ()
	for _, kv := range environment(0, 0) {
		cmd.Env = append(cmd.Env, kv[0]+"="+kv[1])
	}
	cmd.Env = append(cmd.Env, o.Env...)
	cmd.Stdout, cmd.Stderr = o.Log, o.Log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	c := &command{name: name, cmd: cmd, done: make(chan struct{})}
	p.cmds = append(p.cmds, c)
	go func() {
		defer close(c.done)
		c.err = cmd.Wait()
	}()
	return nil
}

// waitUntilReady waits until both programs answer or one has ended.
func (p *Process) waitUntilReady(ctx context.Context, where *Network, dnsAddr string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ctx, ended := context.WithCancelCause(ctx)
	defer ended(nil)
	for _, c := range p.cmds {
		go func() {
			select {
			case <-c.done:
				ended(fmt.Errorf("%s has ended: %w", c.name, c.err))
			case <-ctx.Done():
			}
		}()
	}
	if err := waitForDNS(ctx, where.Dial, dnsAddr); err != nil {
		return err
	}
	if err := poll(ctx, func() error {
		_, err := p.get(ctx, p.DirectoryURL)
		return err
	}); err != nil {
		return fmt.Errorf("wait for Pebble: %w", err)
	}
	return poll(ctx, func() (err error) {
		p.RootsPEM, err = p.get(ctx, p.ManagementURL+"/roots/0")
		return err
	})
}

func (p *Process) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: %s", url, resp.Status)
	}
	return body, nil
}

// stop ends the programs and removes their files. It may be called twice.
func (p *Process) stop() {
	for _, c := range p.cmds {
		_ = c.cmd.Process.Kill() // it may have ended already
		<-c.done
	}
	if p.client != nil {
		p.client.CloseIdleConnections()
	}
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}

// binDir returns the directory of the programs in the repository that contains the
// working directory.
func binDir() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find .pebble/bin: %w", err)
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, ".pebble", "go.mod")); err == nil {
			return filepath.Join(dir, ".pebble", "bin"), nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find .pebble/bin: %s is not inside the repository; set BinDir", strings.TrimSuffix(wd, "/"))
		}
	}
}
