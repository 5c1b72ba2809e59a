// Package managed holds what the proxy stores about the certificates that it
// keeps renewed: the managed certificate, its bundle, the journal of its order,
// the deployment of its files, and the errors that a store returns about them.
//
// It holds values only. Package renewal decides when a certificate is due,
// package store stores.
//
//	m, err := st.ManagedByID(ctx, id)
//	if errors.Is(err, managed.ErrNotFound) {
//		return nil // its client stopped it
//	}
package managed
