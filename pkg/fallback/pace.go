package fallback

import (
	"io"
	"net/http"
	"time"
)

// portion is the progress that a body must make in each grace: the rate of a very
// slow link.
const portion = 4 << 10

// pace moves the deadline of one direction of an exchange.
type pace struct {
	setDeadline func(time.Time) error
	grace       time.Duration
	end         time.Time // of the exchange
}

// allow allows the time for so many portions, if the exchange may last as long.
func (p *pace) allow(portions int) {
	deadline := time.Now().Add(time.Duration(portions) * p.grace)
	if p.end.Before(deadline) {
		deadline = p.end
	}
	p.setDeadline(deadline) //nolint:errcheck // a connection without deadlines has none to move
}

// upload is the body of a request. The deadline of reads moves with it.
type upload struct {
	io.ReadCloser
	pace
	earned int // bytes since the deadline was moved
}

func (u *upload) Read(b []byte) (int, error) {
	n, err := u.ReadCloser.Read(b)
	switch u.earned += n; {
	case err != nil: // the client may wait for its answer as long as the exchange lasts
		u.setDeadline(u.end) //nolint:errcheck // a connection without deadlines has none to move
	case u.earned >= portion:
		u.earned = 0
		u.allow(1)
	}
	return n, err
}

// download is the answer to a request. The deadline of writes moves with it.
type download struct {
	http.ResponseWriter
	pace
}

func (d *download) Write(b []byte) (int, error) {
	d.allow(1 + len(b)/portion)
	return d.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (d *download) Unwrap() http.ResponseWriter { return d.ResponseWriter }
