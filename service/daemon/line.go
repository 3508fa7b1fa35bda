package daemon

import (
	"context"
	"sync"
)

// line is a queue without a bound: who puts something in never waits.
type line[T any] struct {
	mu    sync.Mutex
	items []T
	wake  chan struct{}
}

func newLine[T any]() *line[T] { return &line[T]{wake: make(chan struct{}, 1)} }

func (l *line[T]) put(v T) {
	l.mu.Lock()
	l.items = append(l.items, v)
	l.mu.Unlock()
	poke(l.wake)
}

// each calls f for what is put in, in order, until ctx is done and all that came
// before was taken.
func (l *line[T]) each(ctx context.Context, f func(T)) {
	for {
		l.mu.Lock()
		items := l.items
		l.items = nil
		l.mu.Unlock()
		for _, v := range items {
			f(v)
		}
		if len(items) > 0 {
			continue
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			l.mu.Lock()
			left := len(l.items)
			l.mu.Unlock()
			if left == 0 {
				return
			}
		}
	}
}
