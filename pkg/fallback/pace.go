package fallback

import (
	"io"
	"net/http"
	"time"
)

// portion is the number of bytes that a body must transfer in each grace, even over a
// very slow link.
const portion = 4 << 10

// pace moves the deadline of one direction of an exchange.
type pace struct {
	setDeadline func(time.Time) error
	grace       time.Duration
	end         time.Time // end of the exchange
}

// allow moves the deadline to the time for these portions, but not beyond end.
func (p *pace) allow(portions int) {
	deadline := time.Now().Add(time.Duration(portions) * p.grace)
	if p.end.Before(deadline) {
		deadline = p.end
	}
	p.setDeadline(deadline) //nolint:errcheck // a connection without deadlines has none to move
}

// upload is the body of a request. Its progress moves the read deadline.
type upload struct {
	io.ReadCloser
	pace
	earned int // bytes since the deadline was last moved
}

func (u *upload) Read(b []byte) (int, error) {
	n, err := u.ReadCloser.Read(b)
	switch u.earned += n; {
	case err != nil: // no more progress is needed until the exchange ends
		u.setDeadline(u.end) //nolint:errcheck // a connection without deadlines has none to move
	case u.earned >= portion:
		u.earned = 0
		u.allow(1)
	}
	return n, err
}

// download is the answer to a request. Its progress moves the write deadline.
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
