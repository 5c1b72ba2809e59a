// Package managed defines the records of the certificates that the proxy renews:
// the managed certificate, its bundle, the journal of its order, the deployment of
// its files, and the errors that a store returns about them.
//
// It contains only values. Package renewal decides when a certificate is due, and
// package store stores it.
//
//	m, err := st.ManagedByID(ctx, id)
//	if errors.Is(err, managed.ErrNotFound) {
//		return nil // its client deleted it
//	}
package managed
