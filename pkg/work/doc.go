// Package work carries out background work of every kind: it claims due work with
// a lease, shares the workers among clients, records failures and backs off.
//
// Each row stores when it is due; there is no second schedule that could disagree
// with it. An instance claims rows with a lease and renews the lease while it works.
// So no two instances work on one row, and the rows of a dead instance become free.
//
//	loop := work.NewLoop(source, workers, time.Now, logger)
//	loop.Run(ctx)
//
// It handles no certificates or files; a Source does.
package work
