// Package peers coordinates several instances on one PostgreSQL database. All of them
// serve each answer to a challenge, so a CA may connect to any of them. Each notifies
// the others of due work and of news.
//
//	p, err := peers.New(peers.Config{Bus: s, Identity: id, Self: name, Local: memory, …})
//	go p.Run(ctx)
//	answer, err := p.Publisher(memory).Publish(ctx, acme.HTTP01, c) // when it returns, the others serve it, too
//	defer answer.Remove()
//
// Messages use the database's NOTIFY and are never stored. They are sealed with a key
// derived from the identity file, which all instances share. So the database server,
// its log and its other users see neither names nor tokens, and cannot forge an
// answer. A copied message is valid for a minute, and can only repeat an answer that
// an instance sent.
//
// Instances need no configured list of each other. Each sends heartbeats, and is
// forgotten when several of them are missing. After an instance failed to acknowledge
// an answer in time, the others do not wait for it until it acknowledges one.
package peers
