package dnsupdate

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// The variables, with lego's names.
const (
	prefix       = "DNSUPDATE_"
	otherPrefix  = "RFC2136_" // lego's older prefix
	envServers   = prefix + "NAMESERVER"
	envZones     = prefix + "ZONES"
	envTTL       = prefix + "TTL"
	envTimeout   = prefix + "DNS_TIMEOUT"
	envKeyFile   = prefix + "TSIG_FILE"
	envKey       = prefix + "TSIG_KEY"
	envSecret    = prefix + "TSIG_SECRET"
	envAlgorithm = prefix + "TSIG_ALGORITHM"
	envWait      = prefix + "PROPAGATION_TIMEOUT"
	envOldWait   = prefix + "TIMEOUT"
	envInterval  = prefix + "POLLING_INTERVAL"
)

// maxFile is the largest size of a file that a variable names, in bytes.
const maxFile = 64 << 10

// Settings holds the configuration of a Client, and the times for which its caller waits
// for the propagation of a value.
type Settings struct {
	Config
	PropagationTimeout time.Duration // zero if not set
	PollingInterval    time.Duration // zero if not set
}

// FromEnvironment reads the variables. For each, a variable with the suffix _FILE may
// name a file with the value. An error names the variable, and never quotes a secret.
func FromEnvironment(getenv func(string) string) (Settings, error) {
	e := environment{getenv: getenv}
	var s Settings
	text := e.get(envServers)
	if text == "" && e.err == nil {
		e.err = fmt.Errorf("missing: %s", envServers)
	}
	if text != "" {
		var err error
		if s.Servers, err = ParseServers(text); err != nil {
			e.fail(envServers, err)
		}
	}
	for _, zone := range strings.FieldsFunc(e.get(envZones), isSeparator) {
		if _, ok := dns.IsDomainName(zone); !ok {
			e.fail(envZones, fmt.Errorf("%q is not a domain name; use one such as example.com", zone))
		}
		s.Zones = append(s.Zones, dns.CanonicalName(zone))
	}
	s.TTL = uint32(e.seconds(envTTL, DefaultTTL))
	s.Timeout = time.Duration(e.seconds(envTimeout, 0)) * time.Second
	s.Key = e.key()
	old := e.seconds(envOldWait, 0)
	s.PropagationTimeout = time.Duration(e.seconds(envWait, old)) * time.Second
	s.PollingInterval = time.Duration(e.seconds(envInterval, 0)) * time.Second
	return s, e.err
}

// environment reads variables and stores the first fault.
type environment struct {
	getenv func(string) string
	err    error
}

func (e *environment) fail(name string, err error) {
	if e.err == nil {
		e.err = fmt.Errorf("%s: %w", name, err)
	}
}

// get returns a variable's value under either prefix, or the content of the file that
// its _FILE variable names. An empty variable counts as not set.
func (e *environment) get(name string) string {
	for _, name := range []string{name, otherPrefix + strings.TrimPrefix(name, prefix)} {
		if value := strings.TrimSpace(e.getenv(name)); value != "" {
			return value
		}
		path := e.getenv(name + "_FILE")
		if path == "" {
			continue
		}
		text, err := readFile(path)
		if err != nil {
			e.fail(name+"_FILE", err)
		}
		return strings.TrimSpace(text)
	}
	return ""
}

func (e *environment) seconds(name string, unset int64) int64 {
	text := e.get(name)
	if text == "" {
		return unset
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		e.fail(name, fmt.Errorf("%q is not a number of seconds; use one such as 60", text))
	}
	return n
}

// key reads the TSIG key from the file that tsig-keygen wrote, or from its parts.
func (e *environment) key() Key {
	k := Key{Name: e.get(envKey), Secret: e.get(envSecret), Algorithm: e.get(envAlgorithm)}
	path := e.get(envKeyFile)
	switch {
	case path != "":
		text, err := readFile(path)
		if err == nil {
			k, err = ParseKey(text)
		}
		if err != nil {
			e.fail(envKeyFile, err)
		}
	case k.Name == "" && k.Secret == "":
		return Key{}
	case k.Name == "" || k.Secret == "":
		e.fail(envKey, fmt.Errorf("half of a TSIG key; set both %s and %s", envKey, envSecret))
	}
	k, name, err := k.canonical()
	if path != "" {
		name = envKeyFile
	}
	if err != nil {
		e.fail(name, err)
	}
	return k
}

func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = errors.New("the file is too long; use another one")
	}
	return string(text), err
}
