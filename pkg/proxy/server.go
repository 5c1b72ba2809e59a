package proxy

import (
	"log/slog"
	"net/http"
	"time"
)

// server returns a server with all limits set. Handlers that stream extend their own
// deadlines.
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
			MaxReceiveBufferPerStream:     http2Window, // clients assume 65,535 until they read our settings
			WriteByteTimeout:              headers,
			SendPingTimeout:               6 * headers,
		},
		// The handler also answers "OPTIONS *".
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
}

// closeAfterChunked closes a connection after a chunked request. The request may also
// have had a length, which net/http has removed. If a server in front used that
// length, the following bytes would be a body to it and a request to us (RFC 9112,
// section 6.1).
func closeAfterChunked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
