package fallback

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"time"

	"golang.org/x/time/rate"

	"github.com/acmeproxy/acmeproxy/pkg/connlimit"
)

// Limits of what is passed on.
const (
	maxBody = 32 << 20         // of a request, in bytes
	silence = 30 * time.Second // before the backend's answer begins
)

// BackendConfig holds what Backend needs.
type BackendConfig struct {
	Target *url.URL // an http:// URL without a path
	// InFlight is the number of exchanges at once; see [connlimit.Places]. If 0,
	// it is 1,024. Port 80 must have more connections, so that challenges always
	// find one.
	InFlight int
	// Grace is the time in which a body must make progress in either direction.
	// If 0, it is 15 s.
	Grace time.Duration
	// Longest is the time that one exchange may take. If 0, it is 2 minutes.
	Longest time.Duration
	Logger  *slog.Logger
}

// Backend passes requests on to a web server. Host stays what the client sent. X-Forwarded-For, -Host and -Proto are ours; what
// the client says in such fields is dropped. Protocols are not switched: a
// WebSocket would hold its connection for as long as it likes.
func Backend(challenges http.Handler, cfg BackendConfig) http.Handler {
	cfg.InFlight = cmp.Or(cfg.InFlight, 1024)
	cfg.Grace = cmp.Or(cfg.Grace, 15*time.Second)
	cfg.Longest = cmp.Or(cfg.Longest, 2*time.Minute)
	proxy := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { rewrite(r, cfg.Target) },
		Transport:    transport(),
		ErrorHandler: errorHandler(cfg.Logger),
		ErrorLog:     slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	places := connlimit.NewPlaces(cfg.InFlight)
	return route(challenges, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		release, ok := places.Take(remoteAddr(r))
		if !ok {
			w.Header().Set("Retry-After", "1")
			refuse(w, http.StatusServiceUnavailable)
			return
		}
		defer release()
		cfg.pass(proxy, w, r)
	}))
}

// remoteAddr is the address of the other end of r's connection.
func remoteAddr(r *http.Request) netip.Addr {
	addr, _ := netip.ParseAddrPort(r.RemoteAddr)
	return addr.Addr()
}

// pass gives one exchange the time that a challenge never needs.
func (cfg BackendConfig) pass(proxy http.Handler, w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), cfg.Longest)
	defer cancel()
	end := time.Now().Add(cfg.Longest)
	control := http.NewResponseController(w)
	control.SetReadDeadline(end)
	control.SetWriteDeadline(end)
	r = r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		control.SetReadDeadline(time.Now().Add(cfg.Grace))
		r.Body = &upload{http.MaxBytesReader(w, r.Body, maxBody), pace{control.SetReadDeadline, cfg.Grace, end}, 0}
	}
	proxy.ServeHTTP(&download{w, pace{control.SetWriteDeadline, cfg.Grace, end}}, r)
}

func rewrite(r *httputil.ProxyRequest, target *url.URL) {
	for name := range r.Out.Header {
		if isOurs(name) {
			delete(r.Out.Header, name)
		}
	}
	r.Out.Trailer = nil // a backend may take its fields for those of the header
	r.SetURL(target)
	r.Out.Host = r.In.Host
	r.SetXForwarded()
}

// transport goes straight to the backend, which is near: no proxies of the
// environment, no redirects, no compression of its own.
func transport() *http.Transport {
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        time.Minute,
		ResponseHeaderTimeout:  silence,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
	}
}

// errorHandler answers for a backend that does not, and tells the administrator
// once a minute, not once a request.
func errorHandler(log *slog.Logger) func(http.ResponseWriter, *http.Request, error) {
	seldom := rate.Sometimes{First: 1, Interval: time.Minute}
	return func(w http.ResponseWriter, r *http.Request, err error) {
		var tooLarge *http.MaxBytesError
		var timeout net.Error
		switch {
		case errors.As(err, &tooLarge):
			refuse(w, http.StatusRequestEntityTooLarge)
			return
		case errors.Is(r.Context().Err(), context.Canceled): // nobody waits for an answer
			return
		case errors.As(err, &timeout) && timeout.Timeout():
			refuse(w, http.StatusGatewayTimeout)
		default:
			refuse(w, http.StatusBadGateway)
		}
		seldom.Do(func() { log.Warn("http-fallback: the backend does not answer", "error", err) })
	}
}
