// Package store keeps everything of the proxy that must outlive the process:
// upstream accounts, clients and what they may ask for, managed certificates
// with the moment each is due, the journal of orders begun, pending hooks, the
// audit trail and the quota counters.
//
// The package must never see a secret in the clear: keys arrive sealed,
// credentials as verifiers (SHA-256), bundles as ciphertext. It decides nothing
// about who may do what, except that a name has one owner.
//
// Every list is paged and ordered by an index. Work is claimed, not assigned: a
// row says when it is due, [Store.ClaimDue] takes due rows with a lease, and
// each later step of the holder is refused with [managed.ErrLost] once another took the
// row. What several instances could do at once is decided inside the statement
// or the transaction, never by a read followed by a write.
//
// The methods belong to parts (accounts, secrets, clients, credentials,
// certificates, deployments, audit trail, quotas), each with tables and SQL of its
// own. Package sqldb is the engine under them. Another package brings its tables
// into the same database as a part of [Config].
//
//	s, err := store.Open(ctx, store.Config{Path: "/var/lib/acmeproxy/acmeproxy.db"})
//	if err != nil {
//		return err
//	}
//	defer s.Close()
//	m, created, err := s.EnsureManaged(ctx, managed.Certificate{
//		ClientID: client.ID, Mode: "certificate-agent", Names: []string{"web1.example.com"},
//	})
//
// Package storetest holds the contract that each database must pass.
package store
