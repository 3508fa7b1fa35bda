package bucket

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"

	"capagent/internal/failure"
)

// File is what is to be put, and how far an earlier attempt came.
type File struct {
	Key     string
	Size    int64
	SHA256  [sha256.Size]byte
	Content io.ReaderAt
	Type    string // "": application/octet-stream

	// Upload is what Begun was told by an attempt that did not end; "" without one.
	Upload string
	// Begun keeps by what an upload in parts goes on: before its first part is sent,
	// and before the object is made of them. An error ends the attempt.
	Begun func(upload string) error
	// Sent is told, after each request, how many bytes the store has. It may be nil.
	Sent func(bytes int64)
}

// Stored is what became of a file.
type Stored struct {
	Existed bool  // it was there already, whole
	Sent    int64 // bytes that this attempt sent
	Kept    int64 // bytes that an earlier one had sent
}

const (
	smallFile   = 16 << 20 // up to here one request
	maxParts    = 10_000   // S3's own limits
	maxPartSize = 5 << 30
	metaSHA256  = "sha256"
)

// partSize is that of a file's parts. It depends on nothing but the size, so that
// an upload goes on as it was begun.
func (b *Bucket) partSize(size int64) int64 {
	if b.opts.PartSize > 0 {
		return b.opts.PartSize
	}
	const step = 1 << 20
	need := (size + maxParts - 1) / maxParts
	return max(smallFile, (need+step-1)/step*step)
}

// Put stores a file, unless it is there already. It fails with ClassExists when
// something else is. When it fails otherwise it may be called again, with
// what Begun was told.
func (b *Bucket) Put(ctx context.Context, f File) (Stored, error) {
	if err := f.check(b.partSize(f.Size)); err != nil {
		return Stored{}, fail(ClassRefused, err, b.opts.Table)
	}
	if err := b.ready(ctx); err != nil {
		return Stored{}, err
	}
	if there, err := b.Has(ctx, f.Key, f.Size, f.SHA256); err != nil || there {
		return Stored{Existed: there}, err
	}
	put := b.putWhole
	if f.Size > min(smallFile, b.partSize(f.Size)) {
		put = b.putParts
	}
	stored, err := put(ctx, &f)
	if err != nil && !isClass(err, classCondition) && !isClass(err, classUploadGone) {
		return stored, err
	}
	// A store that refused what it had already done, or that somebody else was
	// quicker at, tells here.
	there, headErr := b.Has(ctx, f.Key, f.Size, f.SHA256)
	switch {
	case headErr != nil:
		return stored, headErr
	case there:
		return stored, nil
	case err != nil:
		return stored, err
	default:
		return stored, fail(ClassServer, fmt.Errorf("store %s: the store took it and does not have it", b.Place(f.Key)), b.opts.Table)
	}
}

func (f *File) check(part int64) error {
	switch {
	case f.Key == "" || len(f.Key) > 1024 || strings.HasPrefix(f.Key, "/"):
		return errors.New("the object's key is not usable")
	case f.Size < 0 || part > maxPartSize || f.Size > part*maxParts:
		return errors.New("the file is larger than S3 takes")
	case f.Content == nil:
		return errors.New("there is no content")
	}
	return nil
}

// Has says whether the object is there, whole: its size and SHA-256 are as given.
// It fails with ClassExists when another object has the key.
func (b *Bucket) Has(ctx context.Context, key string, size int64, sum [sha256.Size]byte) (bool, error) {
	if err := b.ready(ctx); err != nil {
		return false, err
	}
	what := "look for " + b.Place(key)
	out, err := b.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.opts.Bucket, Key: &key})
	if err != nil {
		switch status(err) {
		case http.StatusNotFound: // or there is no bucket, which the next request tells
			return false, nil
		case http.StatusForbidden, http.StatusBadRequest:
			return false, b.why(ctx, what, key, err)
		}
		return false, b.explain(what, err)
	}
	for name, value := range out.Metadata {
		if strings.EqualFold(name, metaSHA256) && strings.EqualFold(value, hex.EncodeToString(sum[:])) && aws.ToInt64(out.ContentLength) == size {
			return true, nil
		}
	}
	return false, fail(ClassExists, fmt.Errorf("%s holds something else already: it is never overwritten", b.Place(key)), b.opts.Table)
}

// why asks for a byte of an object where HEAD was refused: answers to HEAD have no
// body, and so no reason.
func (b *Bucket) why(ctx context.Context, what, key string, refused error) error {
	out, err := b.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.opts.Bucket, Key: &key, Range: aws.String("bytes=0-0")})
	if err == nil {
		_ = out.Body.Close()
		err = refused
	}
	if status(err) == http.StatusNotFound && code(err) != "NoSuchBucket" {
		err = refused
	}
	return b.explain(what, err)
}

// metadata is what an object carries to be known again by.
func (f *File) metadata() map[string]string {
	return map[string]string{metaSHA256: hex.EncodeToString(f.SHA256[:])}
}

func (f *File) contentType() *string {
	if f.Type != "" {
		return &f.Type
	}
	return aws.String("application/octet-stream")
}

// hash returns the SHA-256 of a section, which also goes into more.
func hash(r *io.SectionReader, more io.Writer) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	var to io.Writer = h
	if more != nil {
		to = io.MultiWriter(h, more)
	}
	buf := make([]byte, 256<<10)
	n, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{r}, buf)
	if err == nil && n != r.Size() {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		_, err = r.Seek(0, io.SeekStart)
	}
	return [sha256.Size]byte(h.Sum(nil)), err
}

func base64Sum(sum [sha256.Size]byte) *string {
	return aws.String(base64.StdEncoding.EncodeToString(sum[:]))
}

// signed says what is in a request's body, so that it need not be read once more
// for the signature.
func signed(sum [sha256.Size]byte) func(*s3.Options) {
	add := func(stack *middleware.Stack) error {
		return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("PayloadHashIsKnown",
			func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
				return next.HandleFinalize(v4.SetPayloadHash(ctx, hex.EncodeToString(sum[:])), in)
			}), "ComputePayloadHash", middleware.Before)
	}
	return s3.WithAPIOptions(add)
}

// once is the condition that nothing has the key, for stores that know it.
func (b *Bucket) once() *string {
	if b.unconditional.Load() {
		return nil
	}
	return aws.String("*")
}

// withCondition calls f again when the store does not know the condition.
func (b *Bucket) withCondition(f func() error) error {
	err := f()
	if err != nil && status(err) == http.StatusNotImplemented && b.unconditional.CompareAndSwap(false, true) {
		err = f()
	}
	return err
}

func (b *Bucket) putWhole(ctx context.Context, f *File) (Stored, error) {
	what := "store " + b.Place(f.Key)
	body := io.NewSectionReader(f.Content, 0, f.Size)
	sum, err := hash(body, nil)
	if err != nil {
		return Stored{}, unreadable(what, err)
	}
	if sum != f.SHA256 {
		return Stored{}, fail(ClassChanged, fmt.Errorf("%s: the file has changed", what), b.opts.Table)
	}
	err = b.withCondition(func() error {
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return err
		}
		_, err := b.s3.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &b.opts.Bucket, Key: &f.Key, Body: body, ContentLength: &f.Size, ContentType: f.contentType(),
			ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ChecksumSHA256: base64Sum(sum), Metadata: f.metadata(), IfNoneMatch: b.once(),
		}, signed(sum))
		return err
	})
	if err != nil {
		return Stored{}, b.explain(what, err)
	}
	f.sent(f.Size)
	return Stored{Sent: f.Size}, nil
}

func (f *File) sent(n int64) {
	if f.Sent != nil {
		f.Sent(n)
	}
}

func unreadable(what string, err error) error {
	return &failure.Error{Class: ClassUnreadable, Err: fmt.Errorf("%s: read the file: %w", what, err)}
}

// patience is how long a store may be silent while it puts parts together.
func (b *Bucket) patience(size int64) time.Duration {
	return b.opts.Timeout + time.Duration(size/thinkRate)*time.Second
}
