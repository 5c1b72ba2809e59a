package hook

import (
	"strings"
	"time"
)

// Event holds what a command needs to know. An empty field sets no variable.
type Event struct {
	Names         []string // canonical; the first one names the certificate
	Dir           string   // the folder that holds the files, in certbot's names
	CertPath      string   // the leaf alone
	ChainPath     string   // the issuers
	FullchainPath string   // leaf and issuers
	KeyPath       string
	Serial        string // lower-case hex
	NotAfter      time.Time
	Mode          string // acme-client, certificate-agent or acme-gateway, as passed by the caller
	Email         string // the CA account's contact
}

// own is the prefix of the proxy's own configuration. No hook inherits it.
const own = "ACMEPROXY_"

type variable struct{ name, value string }

// variables returns the variables for an event, in all three dialects.
func (e Event) variables() []variable {
	name, names := "", strings.Join(e.Names, " ")
	if len(e.Names) > 0 {
		name = e.Names[0]
	}
	notAfter := ""
	if !e.NotAfter.IsZero() {
		notAfter = e.NotAfter.UTC().Format(time.RFC3339)
	}
	return []variable{
		{own + "EVENT", "certificate-obtained"},
		{own + "MODE", e.Mode},
		{own + "NAME", name},
		{own + "NAMES", names},
		{own + "DIR", e.Dir},
		{own + "CERT_PATH", e.CertPath},
		{own + "CHAIN_PATH", e.ChainPath},
		{own + "FULLCHAIN_PATH", e.FullchainPath},
		{own + "KEY_PATH", e.KeyPath},
		{own + "SERIAL", e.Serial},
		{own + "NOT_AFTER", notAfter},

		// certbot: eff-certbot.readthedocs.io, "Renewing certificates".
		{"RENEWED_LINEAGE", e.Dir},
		{"RENEWED_DOMAINS", names},

		// lego: its certificate file includes the chain.
		{"LEGO_ACCOUNT_EMAIL", e.Email},
		{"LEGO_CERT_DOMAIN", name},
		{"LEGO_CERT_PATH", e.FullchainPath},
		{"LEGO_CERT_KEY_PATH", e.KeyPath},
		{"LEGO_ISSUER_CERT_PATH", e.ChainPath},
	}
}
