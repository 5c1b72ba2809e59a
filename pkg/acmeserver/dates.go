package acmeserver

import "time"

// Dates says what a clock that was ahead did to an order.
type Dates int

// What Order.CorrectDates found.
const (
	DatesRight     Dates = iota
	DatesCorrected       // the order changed and must be stored
	DatesUseless         // the order must be deleted
)

// CorrectDates does for one order what a Storage must do in its method of that name.
func (o *Order) CorrectDates(now, latest time.Time) Dates {
	ahead := o.CreatedAt.After(latest)
	if ahead && o.Status != StatusProcessing {
		return DatesUseless
	}
	found := DatesRight
	if o.LeaseUntil.After(latest) {
		o.LeaseOwner, o.LeaseUntil = "", time.Time{}
		found = DatesCorrected
	}
	if o.DueAt.After(latest) && (ahead || o.DueAt.After(o.Expires)) {
		o.DueAt = now
		found = DatesCorrected
	}
	return found
}
