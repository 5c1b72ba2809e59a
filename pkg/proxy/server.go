package proxy

import (
	"log/slog"
	"net/http"
	"time"
)

// server has every limit set; handlers that stream move their own deadlines.
func (p *Proxy) server(h http.Handler, headers time.Duration) *http.Server {
	return &http.Server{
		Handler:           closeAfterChunked(h),
		ReadHeaderTimeout: headers,
		ReadTimeout:       3 * headers,
		WriteTimeout:      6 * headers,
		IdleTimeout:       6 * headers,
		MaxHeaderBytes:    8 << 10,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          http2Stream,
			MaxReadFrameSize:              16 << 10,
			MaxReceiveBufferPerConnection: http2Window,
			MaxReceiveBufferPerStream:     http2Window, // clients count on 65,535 until they read our settings
			WriteByteTimeout:              headers,
			SendPingTimeout:               6 * headers,
		},
		// "OPTIONS *" is no exception: the handler has the say.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
}

// closeAfterChunked ends a connection after a chunked request. Whether such a request
// has a length as well is not known here any more: were there a server in front
// that goes by the length, what follows might be a request to us and a body to
// it (RFC 9112, section 6.1).
func closeAfterChunked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
