package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/internal/pcapio"
	"capagent/internal/quote"
	"capagent/rotate"
	"capagent/service"
	"capagent/service/doctor"
)

// captureSource is the source of what `capture` records.
const captureSource = "capture"

// pingPatience is how long a capture waits for the server before it begins.
const pingPatience = 5 * time.Second

// prepareUpload finds out whether an upload can go well, before packets are
// captured that nobody could send.
func (s *shot) prepareUpload(ctx context.Context) (err error) {
	s.agent, err = s.agentWith(ctx, func(cfg *service.Config) {
		if s.opts.stream = s.streams(cfg); s.opts.stream {
			cfg.CloudShark.Stream, cfg.CloudShark.Connecting = true, s.flows.Connecting
		}
	})
	if err != nil {
		if exitCode(err) == exitConfig {
			s.hint("--no-upload --write FILE captures without a CloudShark")
		}
		return err
	}
	if err = s.agent.CheckTags(s.opts.tags); err != nil {
		err = usageError("%w", err)
	} else {
		err = s.tryServer(ctx)
	}
	if err != nil {
		return errors.Join(err, s.agent.Close())
	}
	return nil
}

// streams says whether the capture is sent while it goes on: when that is asked
// for, or configured and possible.
func (s *shot) streams(cfg *service.Config) bool {
	return s.opts.stream || cfg.CloudShark.Stream && s.keys == nil && !s.opts.onFailure && s.format == pcapio.Pcapng
}

// stream begins the upload of the file that is being written. What breaks it off
// is told; then the file is uploaded in the end.
func (s *shot) stream() {
	if !s.opts.stream {
		return
	}
	part, path := s.path, s.path
	if s.spooled != nil {
		path = s.spooled.Path()
	}
	name, err := s.agent.Stream(part, path, time.Now(), service.AddOptions{
		Source: captureSource, Owned: s.spooled != nil, Tags: s.opts.tags, Comment: s.opts.comment, Name: s.opts.name,
	})
	if err != nil {
		s.complain(fmt.Errorf("not streamed: %w", err))
		return
	}
	s.session = name
}

// tryServer has the server say whether it knows the token. Where it can't be
// reached now, packets come first: they don't come again.
func (s *shot) tryServer(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, pingPatience)
	defer cancel()
	err := doctor.AskCloudShark(asking, s.agent.Config.CloudShark, version)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		return nil
	case asking.Err() != nil:
		s.complain(fmt.Errorf("%s does not answer (waited %s)", quote.Text(s.agent.Destination()), pingPatience))
	case stops(failure.As(err)):
		return err
	default:
		s.complain(err)
	}
	s.say("capturing all the same; if it can't be uploaded then, the capture is kept")
	return nil
}

// stops says that a failure is still there when the capture has ended, unless
// somebody changes the configuration.
func stops(f *failure.Error) bool { return f.Kind == failure.Pause && f.Class != "quota" }

// salvage records what a `capture` that was killed has left.
func (s *shot) salvage(ctx context.Context) {
	dir := spoolOf(s.agent)
	err := rotate.Salvage(dir, func(left rotate.Sealed) {
		if left.Err != nil {
			s.complain(left.Err)
		}
	})
	s.complain(err)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // there is none yet, or Salvage has said it
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !e.Type().IsRegular() || strings.HasSuffix(path, rotate.Part) {
			continue
		}
		if known, err := s.agent.Ledger.HasPath(ctx, path); known || err != nil {
			continue
		}
		c, err := s.agent.Add(ctx, path, service.AddOptions{Source: captureSource, Owned: true})
		if err != nil {
			s.complain(fmt.Errorf("%s: %w", quote.Path(path), err))
			continue
		}
		s.say("an earlier capture had been cut short: %s kept; `%s` uploads it", packets(uint64(c.Packets)), s.again(c.ID))
	}
}

// upload records the file, sends it, and says what to do when that fails.
func (s *shot) upload(ctx context.Context) error {
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s.presses.meant(func(os.Signal) {
		cancel()
		s.presses.release()
	})
	if s.ended.Load() {
		cancel()
	}
	if s.spooled != nil {
		var err error
		if s.path, err = s.spooled.Seal(); err != nil {
			return err
		}
	}
	if err := s.send(context.WithoutCancel(ctx), sending); err != nil {
		return s.kept(sending, err)
	}
	if links := s.links(); s.opts.open && len(links) > 0 {
		openBrowser(ctx, links[0])
	}
	return nil
}

// send takes the capture into the ledger, which nothing interrupts, and to the
// server.
func (s *shot) send(ctx, sending context.Context) error {
	bar := s.newProgress("reading", s.result.Size)
	defer bar.clear()
	s.agent.OnBytes(bar.add)
	opts := service.AddOptions{
		Source: captureSource, Owned: s.spooled != nil, Tags: s.opts.tags, Comment: s.opts.comment, Name: s.opts.name, Live: s.result.Live(),
	}
	if s.keys != nil {
		opts.Keylog = s.keys.filled()
	}
	if s.session != "" {
		opts.Name = s.session
	}
	c, err := s.agent.Add(ctx, s.path, opts)
	s.view = service.NewView(c)
	if err != nil {
		return err
	}
	one := []ledger.Capture{c}
	if err := s.agent.Release(ctx, one); err != nil {
		return err
	}
	bar.restart("uploading", c.Size)
	stopped := s.agent.Send(sending, one, func(_ int, c ledger.Capture, sent error) {
		s.view, err = service.FullView(ctx, s.agent.Ledger, c)
		err = errors.Join(sent, err)
	})
	if err == nil {
		err = stopped
	}
	return err
}

// kept says where a capture is that was not uploaded, and how that is done later.
func (s *shot) kept(sending context.Context, err error) error {
	next := "capagent upload " + shellWord(s.path)
	if s.view.ID != nil {
		next = s.again(*s.view.ID)
	}
	s.advice = "the capture is kept; `" + next + "` uploads it"
	if sending.Err() != nil {
		if s.onTerminal && s.child == nil {
			fmt.Fprint(s.stderr, "\r\x1b[K") // over "^C"
		}
		return exitWith(exitInterrupted, errors.New("interrupted: not uploaded"))
	}
	return fmt.Errorf("not uploaded: %w", err)
}

// again is the command that uploads a capture.
func (s *shot) again(id int64) string {
	words := []string{"capagent", "retry"}
	for _, flag := range [][2]string{{"--config", s.configPath}, {"--url", s.flags.url}, {"--token-file", s.flags.tokenFile}} {
		if flag[1] != "" {
			words = append(words, flag[0], shellWord(flag[1]))
		}
	}
	return strings.Join(append(words, strconv.FormatInt(id, 10)), " ")
}

// shellWord is text as a shell takes it for one word.
func shellWord(text string) string {
	const harmless = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+=,"
	if text != "" && strings.Trim(text, harmless) == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
