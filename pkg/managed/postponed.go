package managed

// Postponed reports that an attempt was put off before the CA was asked. It is not
// counted as a failure, and the next attempt follows soon.
type Postponed struct{ Reason string }

func (p *Postponed) Error() string { return p.Reason }
