package fallback

import (
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
	maxInFlight = 1024             // exchanges; fewer than port 80 has connections, so that challenges always find one; see connlimit.Places
	maxBody     = 32 << 20         // of a request, in bytes
	longest     = 2 * time.Minute  // of an exchange
	silence     = 30 * time.Second // before the backend's answer begins
)

// Backend passes requests on to target, an http:// URL without a path. Host
// stays what the client sent. X-Forwarded-For, -Host and -Proto are ours; what
// the client says in such fields is dropped. Protocols are not switched: a
// WebSocket would hold its connection for as long as it likes.
func Backend(challenges http.Handler, target *url.URL, log *slog.Logger) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { rewrite(r, target) },
		Transport:    transport(),
		ErrorHandler: errorHandler(log),
		ErrorLog:     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	places := connlimit.NewPlaces(maxInFlight)
	return route(challenges, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		release, ok := places.Take(remoteAddr(r))
		if !ok {
			w.Header().Set("Retry-After", "1")
			refuse(w, http.StatusServiceUnavailable)
			return
		}
		defer release()
		pass(proxy, w, r)
	}))
}

// remoteAddr is the address of the other end of r's connection.
func remoteAddr(r *http.Request) netip.Addr {
	addr, _ := netip.ParseAddrPort(r.RemoteAddr)
	return addr.Addr()
}

// pass gives one exchange the time that a challenge never needs.
func pass(proxy http.Handler, w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), longest)
	defer cancel()
	end := time.Now().Add(longest)
	control := http.NewResponseController(w)
	control.SetReadDeadline(end)
	control.SetWriteDeadline(end)
	r = r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		control.SetReadDeadline(time.Now().Add(grace))
		r.Body = &upload{ReadCloser: http.MaxBytesReader(w, r.Body, maxBody), setDeadline: control.SetReadDeadline, end: end}
	}
	proxy.ServeHTTP(&download{w, control.SetWriteDeadline, end}, r)
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
