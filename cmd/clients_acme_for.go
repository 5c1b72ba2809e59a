package cmd

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// recipe writes the commands or the configuration of an ACME program. root is the file
// with the proxy's self-signed certificate, or empty.
type recipe func(b *paste, a admin.ACMEAnswer, root string)

// paste is a text for other programs, of which nothing is shortened.
type paste struct{ strings.Builder }

func (p *paste) add(format string, args ...string) {
	exact := make([]any, len(args))
	for i, arg := range args {
		exact[i] = printable.Exact(arg)
	}
	printable.Fprintf(p, format, exact...)
}

// recipes are ready to paste. The proxy's authorizations are valid at once, so any
// authenticator of the programs will do: none of them is used.
var recipes = map[string]recipe{
	"acme.sh":      forACMESh,
	"caddy":        forCaddy,
	"cert-manager": forCertManager,
	"certbot":      forCertbot,
	"dehydrated":   forDehydrated,
	"lego":         forLego,
}

func acmePrograms() []string { return slices.Sorted(maps.Keys(recipes)) }

// rootFile is the file in the recipes to which the proxy's certificate is written.
const rootFile = "/etc/ssl/acmeproxy.pem"

// acmeRecipe returns the text for a program.
func acmeRecipe(program string, a admin.ACMEAnswer) string {
	var b paste
	root := ""
	if a.Certificate != "" {
		root = rootFile
		if program != "cert-manager" {
			b.add(`# The proxy's certificate is still self-signed, so programs trust it by this file. Once
# it has one of the CA ("acmeproxy status"), remove the file and what names it below.
cat >%s <<'END'
%sEND

`, rootFile, a.Certificate)
		}
	}
	recipes[program](&b, a, root)
	return b.String()
}

// exampleName returns a name that the client may have, or a placeholder.
func exampleName(a admin.ACMEAnswer) string {
	for _, g := range a.Client.Grants {
		for _, name := range g.Names {
			if slices.Contains(g.Modes, clients.ModeACME) && !strings.ContainsAny(name, "*:/") && strings.Contains(name, ".") {
				return name
			}
		}
	}
	return "www.example.com"
}

func forCertbot(b *paste, a admin.ACMEAnswer, root string) {
	if root != "" {
		b.add("REQUESTS_CA_BUNDLE=%s ", root)
	}
	b.add("certbot certonly --standalone --non-interactive --agree-tos --register-unsafely-without-email \\\n  --server %s \\\n", a.Directory)
	if a.Kid != "" {
		b.add("  --eab-kid %s --eab-hmac-key %s \\\n", a.Kid, a.HMACKey)
	}
	b.add("  -d %s\n", exampleName(a))
}

func forLego(b *paste, a admin.ACMEAnswer, root string) {
	if root != "" {
		b.add("LEGO_CA_CERTIFICATES=%s ", root)
	}
	b.add("lego --accept-tos --email hostmaster@example.com --http --http.port :8080 \\\n  --server %s \\\n", a.Directory)
	if a.Kid != "" {
		b.add("  --eab --kid %s --hmac %s \\\n", a.Kid, a.HMACKey)
	}
	b.add("  --domains %s run\n", exampleName(a))
}

func forACMESh(b *paste, a admin.ACMEAnswer, root string) {
	bundle := ""
	if root != "" {
		bundle = " --ca-bundle " + root
	}
	b.add("acme.sh --register-account%s \\\n  --server %s", bundle, a.Directory)
	if a.Kid != "" {
		b.add(" \\\n  --eab-kid %s --eab-hmac-key %s", a.Kid, a.HMACKey)
	}
	b.add("\nacme.sh --issue --webroot /tmp%s \\\n  --server %s \\\n  -d %s\n", bundle, a.Directory, exampleName(a))
}

func forDehydrated(b *paste, a admin.ACMEAnswer, root string) {
	b.WriteString("cat >>/etc/dehydrated/config <<'END'\n")
	b.add("CA=%q\n", a.Directory)
	if a.Kid != "" {
		b.add("EAB_KID=%q\nEAB_HMAC_KEY=%q\n", a.Kid, a.HMACKey)
	}
	if root != "" {
		b.add("CURL_OPTS=\"--cacert %s\"\n", root)
	}
	b.WriteString("END\ndehydrated --register --accept-terms\n")
	b.add("dehydrated --cron --domain %s\n", exampleName(a))
}

func forCaddy(b *paste, a admin.ACMEAnswer, root string) {
	b.WriteString("# At the top of the Caddyfile:\n{\n")
	b.add("\tacme_ca %s\n", a.Directory)
	if root != "" {
		b.add("\tacme_ca_root %s\n", root)
	}
	if a.Kid != "" {
		b.add("\tacme_eab {\n\t\tkey_id %s\n\t\tmac_key %s\n\t}\n", a.Kid, a.HMACKey)
	}
	b.WriteString("}\n")
}

func forCertManager(b *paste, a admin.ACMEAnswer, root string) {
	if a.Kid != "" {
		b.add(`apiVersion: v1
kind: Secret
metadata:
  name: acmeproxy-eab
  namespace: cert-manager
stringData:
  secret: %s
---
`, a.HMACKey)
	}
	b.add(`apiVersion: cert-manager.io/v1
kind: ClusterIssuer
metadata:
  name: acmeproxy
spec:
  acme:
    server: %s
    privateKeySecretRef:
      name: acmeproxy-account
`, a.Directory)
	if root != "" {
		b.WriteString("    # until the proxy has a certificate of the CA:\n    caBundle: " + base64.StdEncoding.EncodeToString([]byte(a.Certificate)) + "\n")
	}
	if a.Kid != "" {
		b.add(`    externalAccountBinding:
      keyID: %s
      keySecretRef:
        name: acmeproxy-eab
        key: secret
`, a.Kid)
	}
	b.WriteString("    solvers:\n      - http01:\n          ingress: {}\n")
}
