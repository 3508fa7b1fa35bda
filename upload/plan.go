package upload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"capagent/internal/ledger"
	"capagent/internal/pcapio"
	"capagent/internal/sums"
)

// plan says in which parts a capture is sent. A file that nothing wraps and that
// is within the limits goes as it is. Whether CloudShark takes compressed files
// is not documented (contracts/cloudshark.md 2), so those are sent unwrapped.
func (s *Step) plan(ctx context.Context, c *ledger.Capture) ([]ledger.Part, error) {
	if c.Size == 0 || c.PayloadSize == 0 {
		return nil, fail(ClassNotCapture, errors.New("the file is empty"))
	}
	limits := pcapio.Limits{Packets: s.opts.Config.MaxPackets, Bytes: s.opts.Config.MaxSize.Bytes()}
	fits := (limits.Bytes == 0 || c.PayloadSize <= limits.Bytes) && (limits.Packets == 0 || c.Packets <= limits.Packets)
	f, err := open(c)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()

	whole := ledger.Part{
		Size: c.PayloadSize, Length: c.PayloadSize, SHA256: c.SHA256, SHA1: c.SHA1,
		Packets: c.Packets, First: c.First, Last: c.Last,
	}
	if fits && c.Wrapper == "" {
		return s.named(c, []ledger.Part{whole}), nil
	}

	// What is planned is what was inspected: the file is hashed on the way.
	hash := sha256.New()
	raw := io.TeeReader(&interruptible{ctx, f}, hash)
	payload, err := pcapio.Unwrap(raw, pcapio.Budget{})
	if err != nil {
		return nil, sourceError(err)
	}
	defer func() { _ = payload.Close() }()
	parts := []ledger.Part{whole}
	if fits {
		pair := sums.New()
		if _, err = io.CopyN(pair, payload, c.PayloadSize); err == nil {
			parts[0].SHA256, parts[0].SHA1 = pair.SHA256(), pair.SHA1()
		}
	} else {
		parts, err = pieces(payload, limits)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if _, rest := io.Copy(io.Discard, raw); rest != nil {
		return nil, sourceError(rest)
	}
	if hex.EncodeToString(hash.Sum(nil)) != c.SHA256 {
		return nil, fail(ClassChanged, fmt.Errorf("%w: its SHA-256 differs", errChanged))
	}
	if errors.Is(err, pcapio.ErrNoSplit) {
		return nil, fail(ClassTooLarge, fmt.Errorf("over max_size or max_packets: %w", err))
	}
	if err != nil {
		return nil, sourceError(err)
	}
	return s.named(c, parts), nil
}

func pieces(payload io.Reader, limits pcapio.Limits) ([]ledger.Part, error) {
	planned, err := pcapio.Plan(payload, limits)
	if err != nil {
		return nil, err
	}
	parts := make([]ledger.Part, len(planned))
	for i, p := range planned {
		parts[i] = ledger.Part{
			Prefix: p.Prefix, Offset: p.Offset, Length: p.Length, Size: p.Size,
			SHA256: p.SHA256, SHA1: p.SHA1, Packets: p.Packets, First: p.First, Last: p.Last,
		}
	}
	return parts, nil
}

func (s *Step) named(c *ledger.Capture, parts []ledger.Part) []ledger.Part {
	for i := range parts {
		p := &parts[i]
		p.Number, p.Of = i+1, len(parts)
		p.Name = sessionName(s.opts.Config.Name, s.opts.Host, c, p.Number, p.Of)
	}
	return parts
}

type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}
