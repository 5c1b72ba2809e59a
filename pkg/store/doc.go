// Package store stores everything of the proxy that must outlive the process: CA
// accounts, clients and their grants, managed certificates and their due times, the
// journal of orders, pending hooks, the audit trail and the quota counters.
//
// The package must never receive a plaintext secret: keys arrive sealed, credentials
// as verifiers (SHA-256), bundles as ciphertext. It makes no decision about
// permissions, except that a name has one owner.
//
// Every list is paged and ordered by an index. Instances claim work: a row stores when
// it is due, and [Store.ClaimDue] leases due rows. Once another owner has claimed the
// row, each later step of the former holder fails with [managed.ErrLost]. Conflicts
// between instances are decided inside the statement or the transaction, never by a
// read followed by a write.
//
// The methods belong to parts (accounts, secrets, clients, credentials, certificates,
// deployments, audit trail, quotas), each with separate tables and SQL. Package sqldb
// is the layer below them. Another package adds its tables to the same database as a
// part of [Config].
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
// Package storetest tests the contract on each database.
package store
