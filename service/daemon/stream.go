package daemon

import (
	"time"

	"capagent/internal/pcapio"
	"capagent/service"
)

// begin is told of each file, by the Rotator. Where captures are streamed, the
// upload begins now, beside the capture, which never waits for it.
func (l *live) begin(part, path string, first time.Time) {
	if !l.d.current().config.CloudShark.Stream {
		return
	}
	l.tell.put(func() { l.stream(part, path, first) })
}

// stream begins an upload. When it can't now, the file is uploaded once it is
// complete, as always: nothing needs to be told.
func (l *live) stream(part, path string, first time.Time) {
	g := l.d.current()
	door, _ := g.door.Status()
	if !g.config.CloudShark.Stream || g.config.Policy.Keeps() || door.State != service.DoorOpen || l.config.Rotate.Format == string(pcapio.Pcap) {
		return
	}
	name, err := g.agent.Stream(part, path, first, service.AddOptions{Source: l.config.Source(), Owned: true})
	if err != nil {
		l.log.Debug().Err(err).Str("path", part).Msg("a file is not streamed")
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.streams) >= mostStreams { // of files of which nothing was heard any more
		clear(l.streams)
	}
	if l.streams == nil {
		l.streams = map[string]string{}
	}
	l.streams[path] = name
}

// mostStreams is how many files of a capture may be open or on their way.
const mostStreams = 64

// streamed is the name of the session that a file is streamed to; "" for none.
func (l *live) streamed(path string) (name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name = l.streams[path]
	delete(l.streams, path)
	return name
}
