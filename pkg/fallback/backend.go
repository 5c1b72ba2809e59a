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

// Limits of a forwarded exchange.
const (
	maxBody       = 32 << 20         // bytes of a request's body
	headerTimeout = 30 * time.Second // until the backend's answer begins
)

// BackendConfig configures Backend.
type BackendConfig struct {
	Target *url.URL // an http:// URL without a path
	// InFlight is the maximum number of concurrent exchanges; see [connlimit.Places].
	// If 0, it is 1,024. Port 80 must allow more connections, so that some are always
	// left for challenges.
	InFlight int
	// Grace is the time in which a body must make progress in either direction.
	// If 0, it is 15 s.
	Grace time.Duration
	// Longest is the timeout for one exchange. If 0, it is 2 minutes.
	Longest time.Duration
	Logger  *slog.Logger
}

// Backend returns a handler that forwards requests to a web server. It does not
// change Host. It sets X-Forwarded-For, -Host and -Proto, and drops such fields of
// the client. It refuses to switch protocols, because a WebSocket could hold its
// connection without a limit.
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

// remoteAddr returns the client's address of r's connection.
func remoteAddr(r *http.Request) netip.Addr {
	addr, _ := netip.ParseAddrPort(r.RemoteAddr)
	return addr.Addr()
}

// pass forwards one exchange. It extends the connection's deadlines, which suit
// challenges only.
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
	r.Out.Trailer = nil // a backend may treat its fields like those of the header
	r.SetURL(target)
	r.Out.Host = r.In.Host
	r.SetXForwarded()
}

// transport returns a transport for a nearby backend. It uses no proxy from the
// environment and adds no compression.
func transport() *http.Transport {
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        time.Minute,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
	}
}

// errorHandler returns a handler that answers if the backend fails. It logs the
// failure at most once a minute.
func errorHandler(log *slog.Logger) func(http.ResponseWriter, *http.Request, error) {
	limited := rate.Sometimes{First: 1, Interval: time.Minute}
	return func(w http.ResponseWriter, r *http.Request, err error) {
		var tooLarge *http.MaxBytesError
		var timeout net.Error
		switch {
		case errors.As(err, &tooLarge):
			refuse(w, http.StatusRequestEntityTooLarge)
			return
		case errors.Is(r.Context().Err(), context.Canceled): // the client has gone
			return
		case errors.As(err, &timeout) && timeout.Timeout():
			refuse(w, http.StatusGatewayTimeout)
		default:
			refuse(w, http.StatusBadGateway)
		}
		limited.Do(func() { log.Warn("http-fallback: the backend does not answer", "error", err) })
	}
}
