package localca

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// revocation is a revoked certificate. Each is a line of the file.
type revocation struct {
	issuer   string // name of the authority, such as issuing-1
	serial   *big.Int
	at       time.Time
	notAfter time.Time // of the certificate
	reason   int
}

func (r revocation) line() string {
	return fmt.Sprintf("%s %x %d %d %d\n", r.issuer, r.serial, r.at.Unix(), r.notAfter.Unix(), r.reason)
}

// parseRevocation reads a line without its end.
func parseRevocation(line string) (r revocation, err error) {
	var at, notAfter int64
	r.serial = new(big.Int)
	if _, err := fmt.Sscanf(line, "%s %x %d %d %d", &r.issuer, r.serial, &at, &notAfter, &r.reason); err != nil {
		return r, err
	}
	r.at, r.notAfter = time.Unix(at, 0).UTC(), time.Unix(notAfter, 0).UTC()
	if r.line() != line+"\n" || r.serial.Sign() <= 0 {
		return r, errors.New("it has another form")
	}
	return r, nil
}

// keepExpired is how long a revocation outlives its certificate. It is long, because a
// start with a clock that is ahead must not lose any.
const keepExpired = 400 * day

// revocations are the revoked certificates. The file grows by one line for each. Opening
// it drops those whose certificates expired long ago.
type revocations struct {
	path string

	mu    sync.Mutex
	file  *os.File                         // guarded by mu
	size  int64                            // of the complete lines in the file; guarded by mu
	all   map[string]map[string]revocation // by issuer and serial number; guarded by mu
	added map[string]int                   // by issuer, since the start; guarded by mu
}

// openRevocations reads the file and writes it without what expired long ago.
func openRevocations(path string, now time.Time) (*revocations, error) {
	r := &revocations{path: path, all: map[string]map[string]revocation{}, added: map[string]int{}}
	data, err := localfile.Read(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var kept bytes.Buffer
	for number, line := range bytes.SplitAfter(data, []byte("\n")) {
		text, complete := bytes.CutSuffix(line, []byte("\n"))
		if !complete {
			break // a crash cut it, so it was never confirmed
		}
		entry, err := parseRevocation(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: line %d is damaged: %w; restore the file from a backup", path, number+1, err)
		}
		if now.Before(entry.notAfter.Add(keepExpired)) {
			kept.Write(line)
			r.put(entry)
		}
	}
	if err != nil || kept.Len() < len(data) { // a full disk must not prevent a start
		if err := replace(path, kept.Bytes()); err != nil {
			return nil, err
		}
	}
	r.size = int64(kept.Len())
	if r.file, err = os.OpenFile(path, os.O_RDWR|localfile.NoLinkNoWait, 0); err != nil {
		return nil, err
	}
	if err := r.file.Sync(); err != nil { // the last line may be that of a killed process
		return nil, errors.Join(err, r.file.Close())
	}
	return r, nil
}

func (r *revocations) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// put is called with mu held, or before r is shared.
func (r *revocations) put(entry revocation) {
	if r.all[entry.issuer] == nil {
		r.all[entry.issuer] = map[string]revocation{}
	}
	r.all[entry.issuer][entry.serial.String()] = entry
	r.added[entry.issuer]++
}

// add stores a revocation durably. The first one of a certificate counts.
func (r *revocations) add(entry revocation) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.all[entry.issuer][entry.serial.String()]; known {
		return nil
	}
	line := entry.line()
	// WriteAt replaces what a failed write may have left behind the last line.
	_, err := r.file.WriteAt([]byte(line), r.size)
	if err == nil {
		err = r.file.Sync()
	}
	if err != nil {
		return errors.Join(err, r.file.Truncate(r.size))
	}
	r.size += int64(len(line))
	r.put(entry)
	return nil
}

func (r *revocations) has(issuer string, serial *big.Int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.all[issuer][serial.String()]
	return known
}

func (r *revocations) count() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, of := range r.all {
		n += len(of)
	}
	return n
}

// of returns the revocations of an issuer for its CRL, by serial number. A certificate
// stays in the CRL after it expired, for clients that read each CRL (RFC 5280, section
// 3.3).
func (r *revocations) of(issuer string, now time.Time) []revocation {
	r.mu.Lock()
	defer r.mu.Unlock()
	var live []revocation
	for _, entry := range r.all[issuer] {
		if !now.After(entry.notAfter.Add(crlLife)) {
			live = append(live, entry)
		}
	}
	slices.SortFunc(live, func(a, b revocation) int { return a.serial.Cmp(b.serial) })
	return live
}

// changes grows with each revocation of an issuer.
func (r *revocations) changes(issuer string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.added[issuer]
}
