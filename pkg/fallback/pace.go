package fallback

import (
	"io"
	"net/http"
	"time"
)

// A body must make progress in both directions, at the rate of a very slow link:
// so many bytes in each grace.
const (
	grace   = 15 * time.Second
	portion = 4 << 10
)

// upload is the body of a request. The deadline of reads moves with it.
type upload struct {
	io.ReadCloser
	setDeadline func(time.Time) error
	end         time.Time // of the exchange
	earned      int       // bytes since the deadline was moved
}

func (u *upload) Read(b []byte) (int, error) {
	n, err := u.ReadCloser.Read(b)
	switch u.earned += n; {
	case err != nil: // the client may wait for its answer as long as the exchange lasts
		u.setDeadline(u.end) //nolint:errcheck // a connection without deadlines has none to move
	case u.earned >= portion:
		u.earned = 0
		u.setDeadline(earlier(time.Now().Add(grace), u.end)) //nolint:errcheck // a connection without deadlines has none to move
	}
	return n, err
}

// download is the answer to a request. The deadline of writes moves with it.
type download struct {
	http.ResponseWriter
	setDeadline func(time.Time) error
	end         time.Time // of the exchange
}

func (d *download) Write(b []byte) (int, error) {
	d.setDeadline(earlier(time.Now().Add(grace+time.Duration(len(b)/portion)*grace), d.end)) //nolint:errcheck // a connection without deadlines has none to move
	return d.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (d *download) Unwrap() http.ResponseWriter { return d.ResponseWriter }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
