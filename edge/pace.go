package edge

import (
	"context"
	"slices"
	"time"
)

// How long a source may take. One that is slow on purpose must not keep an edge from the next; and other edges only share the load of the coordinators, so they are
// left as soon as they do not.
const (
	// headTime bounds finding out what a source has, its cosigners and its checkpoint, which are a few kilobytes.
	headTime = 3 * time.Second
	// peerTime bounds one page of another edge, with the keys to verify it.
	peerTime = 2 * time.Second
	// pageTime is what a page takes at most that is no slow one: pageEvents a second.
	pageTime = time.Second
	// pullTime and leastRate, events a second, bound a whole pull.
	pullTime  = 10 * time.Second
	leastRate = 100
)

// forPull bounds a pull of events.
func forPull(ctx context.Context, events uint64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, pullTime+time.Duration(events/leastRate)*time.Second)
}

// forPage bounds one page of a source.
func forPage(ctx context.Context, source Source) (context.Context, context.CancelFunc) {
	if source.Coordinator() {
		return context.WithCancel(ctx) // the pull's bound holds
	}
	return context.WithTimeout(ctx, peerTime)
}

// turn returns whom to ask after a page of the first source: the same one while its pages are full and quick, else the next. After a slow page only
// coordinators are asked, and the turn of one that served something comes again.
func turn(sources []Source, full bool, took time.Duration, err error) []Source {
	first, rest := sources[0], sources[1:]
	slow := took > pageTime
	if err == nil && full && !slow {
		return sources
	}
	if slow {
		rest = slices.DeleteFunc(slices.Clone(rest), func(s Source) bool { return !s.Coordinator() })
	}
	if err == nil && first.Coordinator() {
		rest = append(slices.Clone(rest), first)
	}
	return rest
}
