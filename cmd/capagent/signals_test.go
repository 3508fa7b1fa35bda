package main

import (
	"os"
	"os/signal"
	"testing"
)

func TestNoSignalsAreNone(t *testing.T) { // not beside others: the signal is for the whole process
	passed, stop := signals(nil)
	defer stop()
	all := make(chan os.Signal, 1)
	signal.Notify(all, os.Interrupt)
	defer signal.Stop(all)
	interruptSelf(t)
	<-all // it is passed to all who want it, in no order that we know
	stop()
	select {
	case s := <-passed:
		t.Errorf("%v was passed", s)
	default:
	}
}
