package issuer

// Waiting returns the number of callers that wait for issuances that can be shared.
func Waiting(p *Pool) (n int) {
	p.flights.mu.Lock()
	defer p.flights.mu.Unlock()
	for _, fl := range p.flights.by {
		n += fl.waiting
	}
	return n
}
