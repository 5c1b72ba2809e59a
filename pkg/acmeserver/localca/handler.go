package localca

import (
	"bytes"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

// Handler serves the CRLs and CA certificates whose URLs the certificates contain, and
// the roots in PEM as root.pem. It looks at the last element of the path only, so it can
// be mounted anywhere.
func (ca *CA) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD are possible", http.StatusMethodNotAllowed)
			return
		}
		name := path.Base(r.URL.Path)
		if name == "root.pem" {
			serve(w, r, "application/x-pem-file", ca.Roots(), time.Hour)
			return
		}
		name, kind, _ := strings.Cut(name, ".")
		a := ca.authority(name)
		switch {
		case a != nil && kind == "cer":
			serve(w, r, "application/pkix-cert", a.cert.Raw, day) // RFC 5280, section 4.2.2.1
		case a != nil && kind == "crl":
			der, err := ca.crlOf(a)
			if err != nil {
				http.Error(w, "the CRL cannot be signed", http.StatusInternalServerError)
				return
			}
			serve(w, r, "application/pkix-crl", der, time.Minute) // RFC 5280, section 4.2.1.13
		default:
			http.NotFound(w, r)
		}
	})
}

// authority returns the authority of a name, or nil.
func (ca *CA) authority(name string) *authority {
	for _, g := range *ca.generations.Load() {
		for _, a := range []*authority{g.root, g.issuing} {
			if a.name == name {
				return a
			}
		}
	}
	return nil
}

func serve(w http.ResponseWriter, r *http.Request, kind string, data []byte, fresh time.Duration) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "public, max-age="+strconv.Itoa(int(fresh.Seconds())))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}
