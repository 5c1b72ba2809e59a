package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUnknownVariables(t *testing.T) {
	t.Parallel()
	flags := []string{"hostname", "http-addr", "domain", "data-dir", "config"}
	for name, test := range map[string]struct {
		environ []string
		want    []Unknown
	}{
		"known":      {[]string{"ACMEPROXY_HOSTNAME=a", "ACMEPROXY_HTTP_ADDR=:80", "ACMEPROXY_CONFIG=x"}, nil},
		"foreign":    {[]string{"PATH=/bin", "acmeproxy_hostname=a", "ACMEPROXYHOSTNAME=a", "=C:=x", ""}, nil},
		"empty":      {[]string{"ACMEPROXY_HOSTNAM="}, nil},
		"misspelled": {[]string{"ACMEPROXY_HOSTNAM=a", "ACMEPROXY_DATADIR=a=b"}, []Unknown{{"ACMEPROXY_DATADIR", "ACMEPROXY_DATA_DIR"}, {"ACMEPROXY_HOSTNAM", "ACMEPROXY_HOSTNAME"}}},
		"plural":     {[]string{"ACMEPROXY_DOMAINS=a"}, []Unknown{{"ACMEPROXY_DOMAINS", "ACMEPROXY_DOMAIN"}}},
		"no idea":    {[]string{"ACMEPROXY_NONSENSE_OF_A_KIND=a"}, []Unknown{{"ACMEPROXY_NONSENSE_OF_A_KIND", ""}}},
		"prefix":     {[]string{"ACMEPROXY_=a"}, []Unknown{{"ACMEPROXY_", ""}}},
		"hook":       {[]string{"ACMEPROXY_CERT_PATH=a", "ACMEPROXY_EVENT=certificate-obtained"}, nil},
		"containers": {[]string{"ACMEPROXY_SERVICE_HOST=10.0.0.1", "ACMEPROXY_SERVICE_PORT_HTTPS=443", "ACMEPROXY_PORT=tcp://10.0.0.1:443", "ACMEPROXY_PORT_443_TCP=x", "ACMEPROXY_PORT_443_TCP_ADDR=x"}, nil},
	} {
		if diff := cmp.Diff(test.want, UnknownVariables(test.environ, flags)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
