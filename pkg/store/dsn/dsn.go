// Package dsn parses the URL of a PostgreSQL database strictly enough to find its
// secrets, so that it can be shown without them. It must never put a password into an
// error or a displayed text, even for a malformed URL. The driver interprets the parts.
//
//	u, err := dsn.Parse("postgres://acmeproxy:secret@db.example.com/acmeproxy")
//	fmt.Println(u) // postgres://acmeproxy@db.example.com/acmeproxy
package dsn

import (
	"errors"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// URL is a well-formed URL. The zero value is no URL.
type URL struct {
	Scheme   string // postgres or postgresql
	User     string // empty: the driver's default
	Secret   bool   // whether it contains a password
	Hosts    []Host // in the order in which they are tried; empty: the driver's default
	Database string // empty: the driver's default
	Params   url.Values
}

// Host is the address of a server.
type Host struct {
	Name string // DNS name, IP address, or the folder of a unix socket
	Port string // empty: the driver's default
}

// Example is an example of a URL, for messages.
const Example = "postgres://acmeproxy@db.example.com/acmeproxy"

// Is reports whether s has the scheme of a PostgreSQL URL.
func Is(s string) bool {
	return strings.HasPrefix(s, "postgres://") || strings.HasPrefix(s, "postgresql://")
}

// Parse parses a URL. Its errors contain no part of s.
func Parse(s string) (URL, error) {
	if !Is(s) {
		return URL{}, errors.New("not the URL of a PostgreSQL database; write it like " + Example)
	}
	var u URL
	var rest string
	u.Scheme, rest, _ = strings.Cut(s, "://")
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	userinfo, hosts, ok := strings.Cut(authority, "@")
	if !ok {
		userinfo, hosts = "", authority
	}
	// A character that could belong to another part is an error. This includes every
	// password whose special characters are not escaped.
	if strings.ContainsAny(hosts+path+query, "@#") || strings.ContainsAny(path, "/:") || strings.Contains(userinfo, "#") {
		return URL{}, errMisplaced
	}
	for _, set := range []func() error{
		func() error { return u.setUser(userinfo) },
		func() error { return u.setDatabase(path) },
		func() error { return u.setParams(query) },
		func() error { return u.setHosts(hosts) },
	} {
		if err := set(); err != nil {
			return URL{}, err
		}
	}
	return u, nil
}

var errMisplaced = errors.New("a special character stands where it cannot; write those of the password as %40 for @, %2F for /, %3A for :, %3F for ?, %23 for # and %25 for %, or keep the password in a file (PGPASSFILE)")

func (u *URL) setUser(userinfo string) (err error) {
	user, password, _ := strings.Cut(userinfo, ":")
	if strings.Contains(password, ":") {
		return errMisplaced
	}
	if u.User, err = text(user); err != nil {
		return errMisplaced
	}
	if _, err = text(password); err != nil {
		return errMisplaced
	}
	u.Secret = password != ""
	return nil
}

func (u *URL) setDatabase(path string) (err error) {
	if u.Database, err = text(path); err != nil {
		return errMisplaced
	}
	return nil
}

func (u *URL) setParams(query string) (err error) {
	if u.Params, err = url.ParseQuery(query); err != nil {
		return errMisplaced
	}
	for key, values := range u.Params {
		if len(values) > 1 || strings.Contains(strings.Join(values, ""), "\x00") {
			return errors.New("a parameter is there twice or cannot be read; write each as name=value once, joined by &")
		}
		if key == "password" || key == "sslpassword" {
			u.Secret = true
		}
	}
	return nil
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9._-]*$`)

func (u *URL) setHosts(list string) error {
	if list != "" {
		for _, entry := range strings.Split(list, ",") {
			h, err := parseHost(entry)
			if err != nil {
				return err
			}
			u.Hosts = append(u.Hosts, h)
		}
		return nil
	}
	// The form for unix sockets.
	for _, name := range strings.Split(u.Params.Get("host"), ",") {
		if name != "" {
			u.Hosts = append(u.Hosts, Host{Name: name})
		}
	}
	return nil
}

func parseHost(entry string) (Host, error) {
	h := Host{}
	if strings.HasPrefix(entry, "[") {
		name, rest, ok := strings.Cut(entry[1:], "]")
		if _, err := netip.ParseAddr(name); err != nil || !ok || rest != "" && rest[0] != ':' {
			return h, errHost
		}
		h.Name, h.Port = name, strings.TrimPrefix(rest, ":")
	} else {
		h.Name, h.Port, _ = strings.Cut(entry, ":")
		if !hostName.MatchString(h.Name) {
			return h, errHost
		}
	}
	if h.Port != "" {
		if n, err := strconv.ParseUint(h.Port, 10, 16); err != nil || n == 0 {
			return h, errHost
		}
	}
	return h, nil
}

var errHost = errors.New("the host or port cannot be read; write host or host:port, and a socket's folder as ?host=/run/postgresql; of the password, special characters are written as %40 for @, %2F for /, %3A for : and so on")

func text(s string) (string, error) {
	out, err := url.PathUnescape(s)
	if err == nil && strings.Contains(out, "\x00") {
		err = errMisplaced
	}
	return out, err
}

// Local reports whether every host is this one, so that no connection uses a network.
// It returns false without a host, because the environment may name one.
func (u URL) Local() bool {
	for _, h := range u.Hosts {
		if !h.local() {
			return false
		}
	}
	return len(u.Hosts) > 0
}

func (h Host) local() bool {
	addr, err := netip.ParseAddr(h.Name)
	return strings.HasPrefix(h.Name, "/") || h.Name == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// String returns the URL without its password and its parameters.
func (u URL) String() string {
	user, socket := "", ""
	if u.User != "" {
		user = url.PathEscape(u.User) + "@"
	}
	var hosts []string
	for _, h := range u.Hosts {
		if strings.HasPrefix(h.Name, "/") {
			socket = "?host=" + h.Name
			continue
		}
		hosts = append(hosts, h.String())
	}
	return u.Scheme + "://" + user + strings.Join(hosts, ",") + "/" + url.PathEscape(u.Database) + socket
}

// String returns the host in the form of a URL.
func (h Host) String() string {
	name := h.Name
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	if h.Port != "" {
		name += ":" + h.Port
	}
	return name
}

var (
	inUserinfo = regexp.MustCompile(`(postgres(?:ql)?://)\S*@`)
	inParams   = regexp.MustCompile(`(?i)(password=)[^&\s"'` + "`" + `]*`)
)

// Mask removes possible secrets of such URLs from a text, the user's name included. Use
// it for text that is repeated unchanged, such as a misplaced argument.
func Mask(text string) string {
	return inParams.ReplaceAllString(inUserinfo.ReplaceAllString(text, "${1}…@"), "${1}…")
}
