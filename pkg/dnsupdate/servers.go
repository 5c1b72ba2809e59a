package dnsupdate

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/acmeproxy/acmeproxy/pkg/dnsquery"
)

func isSeparator(r rune) bool { return r == ',' || unicode.IsSpace(r) }

// ParseServers parses a list of servers, separated by commas or white space, and returns
// them as host:port.
func ParseServers(text string) ([]string, error) {
	var servers []string
	for _, one := range strings.FieldsFunc(text, isSeparator) {
		server, err := dnsquery.ParseServer(one)
		if err != nil {
			return nil, err
		}
		servers = append(servers, server)
	}
	switch {
	case len(servers) == 0:
		return nil, errors.New("no name server; use one such as ns1.example.com or 192.0.2.53")
	case len(servers) > maxServers:
		return nil, fmt.Errorf("%d name servers are too many; use %d at most", len(servers), maxServers)
	}
	return servers, nil
}
