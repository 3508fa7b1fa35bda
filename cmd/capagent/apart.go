package main

import (
	"context"
	"errors"
	"io/fs"
	"sync"

	"github.com/rs/zerolog"

	"capagent/capture/opener"
)

// apart is the child that holds the right to capture, if there is one.
type apart struct{ child *opener.Opener }

// keepApart has the right to capture in a child, and takes it from this process, which
// holds the secrets. Where that can't be done the agent captures by itself, as it does as
// root.
func keepApart(ctx context.Context, log zerolog.Logger) apart {
	done := func(o *opener.Opener) apart {
		log.Info().Int("child", o.PID()).Msg("the right to capture is in a process of its own")
		return apart{o}
	}
	if o := opener.Handed(); o != nil {
		return done(o)
	}
	if !opener.May() {
		return apart{}
	}
	o, err := opener.Start(ctx)
	if err == nil {
		if err = opener.Drop(); err == nil {
			return done(o)
		}
		if errors.Is(err, fs.ErrPermission) { // a service's filter of system calls
			err = o.Restart()
		}
		_ = o.Close()
	}
	log.Warn().Err(err).Str("class", "rights").Msg("the right to capture is not kept apart")
	return apart{}
}

// socket opens packet sockets by the child; nil: without one.
func (p apart) socket() func(cooked bool) (fd int, err error) {
	if p.child == nil {
		return nil
	}
	return p.child.Socket
}

var errChildGone = errors.New("the process that may open packet sockets has ended, and this one has no right to start another; start the agent again")

// during does work and ends the child then. When the child ends first, work is told to
// end, and that is an error: the service manager starts both again.
func (p apart) during(ctx context.Context, work func(context.Context) error) error {
	if p.child == nil {
		return work(ctx)
	}
	ctx, stop := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-p.child.Gone():
			stop(errChildGone)
		case <-ctx.Done():
		}
	})
	err := work(ctx)
	stop(nil)
	watching.Wait()
	_ = p.child.Close()
	if !errors.Is(context.Cause(ctx), errChildGone) {
		return err
	}
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(errChildGone, err)
}
