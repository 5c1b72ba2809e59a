// Package peers lets several instances on one PostgreSQL database answer as one.
// An answer to a challenge is given by all of them, whichever a CA comes to, and
// news of one wakes the others.
//
//	p, err := peers.New(peers.Config{Bus: s, Identity: id, Self: name, Local: memory, …})
//	go p.Run(ctx)
//	answer, err := p.Publisher(memory).Publish(ctx, acme.HTTP01, c) // when it returns, the others answer, too
//	defer answer.Remove()
//
// Messages go through the database's NOTIFY and are written nowhere. They are
// sealed with a key that is made of the identity file, which all instances
// share: the database's server, its log and its other users see neither names
// nor tokens, and cannot make up an answer. A copy of an old message is of no
// use after a minute; until then it repeats an answer that was ours.
//
// There is no list of instances to be kept. Each says that it is here, and is
// forgotten when it was not heard for a while. One that does not acknowledge an
// answer in time is not waited for again until it does.
package peers
