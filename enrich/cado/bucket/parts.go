package bucket

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"capagent/internal/failure"
	"capagent/internal/httpx"
)

// upload is a multipart upload on its way.
type upload struct {
	b    *Bucket
	f    *File
	id   string
	what string
	have map[int32]types.Part // that an earlier attempt sent
	done []types.CompletedPart
	Stored
}

func (b *Bucket) putParts(ctx context.Context, f *File) (Stored, error) {
	u := &upload{b: b, f: f, what: "store " + b.Place(f.Key)}
	if there, err := u.begin(ctx); there || err != nil {
		return Stored{Existed: there}, err
	}
	whole := sha256.New()
	size := b.partSize(f.Size)
	for from, n := int64(0), int32(1); from < f.Size; from, n = from+size, n+1 {
		if err := u.part(ctx, n, io.NewSectionReader(f.Content, from, min(size, f.Size-from)), whole); err != nil {
			return u.Stored, err
		}
		f.sent(u.Sent + u.Kept)
	}
	if [sha256.Size]byte(whole.Sum(nil)) != f.SHA256 {
		u.abort(ctx)
		return u.Stored, fail(ClassChanged, fmt.Errorf("%s: the file has changed", u.what), b.opts.Table)
	}
	return u.Stored, u.complete(ctx)
}

// An upload is kept as "content:stage:id".
const (
	stageParts  = "parts"
	stageObject = "object" // it was asked to make the object of them
)

// keep has the caller remember the upload.
func (u *upload) keep(stage string) error {
	if u.f.Begun == nil {
		return nil
	}
	if err := u.f.Begun(u.f.content() + ":" + stage + ":" + u.id); err != nil {
		return fmt.Errorf("%s: %w", u.what, err)
	}
	return nil
}

// known reads what keep had remembered.
func known(upload string) (content, stage, id string) {
	content, rest, _ := strings.Cut(upload, ":")
	stage, id, _ = strings.Cut(rest, ":")
	return content, stage, id
}

// begin goes on with the upload that is known, or begins one. What the store no
// longer knows is begun afresh, unless the object comes of it. It reports whether
// that is there.
func (u *upload) begin(ctx context.Context) (bool, error) {
	content, stage, id := known(u.f.Upload)
	if u.id = id; id != "" {
		err := u.list(ctx)
		switch {
		case err == nil && content == u.f.content():
			return false, nil
		case err == nil: // the object would carry the other content's SHA-256
			u.abort(ctx)
		case !isClass(err, classUploadGone):
			return false, err
		case content == u.f.content() && stage == stageObject:
			if there, gone, err := u.await(ctx); !gone {
				return there, err
			}
		}
		u.have = nil
	}
	out, err := u.b.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &u.b.opts.Bucket, Key: &u.f.Key, Metadata: u.f.metadata(), ContentType: u.f.contentType(),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ChecksumType: types.ChecksumTypeComposite,
	})
	if err != nil {
		return false, u.b.explain(u.what, err)
	}
	u.id = aws.ToString(out.UploadId)
	if u.id == "" || len(u.id) > 2048 {
		return false, fail(ClassServer, fmt.Errorf("%s: the store begins an upload without a usable id", u.what), u.b.opts.Table)
	}
	err = u.keep(stageParts)
	if err != nil {
		u.abort(ctx)
	}
	return false, err
}

// await looks for the object of an upload that a store may still be putting
// together: some do not know the upload while they do. gone says that neither is
// there; without there, gone and an error the parts are there again.
func (u *upload) await(ctx context.Context) (there, gone bool, err error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for end := time.After(u.b.patience(u.f.Size) - u.b.opts.Timeout + grace); ; {
		if there, err = u.b.Has(ctx, u.f.Key, u.f.Size, u.f.SHA256); there || err != nil {
			return there, false, err
		}
		select {
		case <-tick.C:
			if err = u.list(ctx); !isClass(err, classUploadGone) { // it did not work out
				return false, false, err
			}
		case <-end:
			return false, true, nil
		case <-ctx.Done():
			return false, false, &failure.Error{Class: httpx.ClassCanceled, Err: fmt.Errorf("%s: %w", u.what, ctx.Err())}
		}
	}
}

// content names the file's content in what Begun is told.
func (f *File) content() string { return hex.EncodeToString(f.SHA256[:8]) }

// list learns which parts the store has.
func (u *upload) list(ctx context.Context) error {
	u.have = map[int32]types.Part{}
	for marker := 0; ; {
		in := &s3.ListPartsInput{Bucket: &u.b.opts.Bucket, Key: &u.f.Key, UploadId: &u.id}
		if marker > 0 {
			in.PartNumberMarker = aws.String(strconv.Itoa(marker))
		}
		out, err := u.b.s3.ListParts(ctx, in)
		if err != nil {
			return u.b.explain(u.what, err)
		}
		for _, p := range out.Parts {
			if n := aws.ToInt32(p.PartNumber); n >= 1 && n <= maxParts {
				u.have[n] = p
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			return nil
		}
		next, err := strconv.Atoi(aws.ToString(out.NextPartNumberMarker))
		if err != nil || next <= marker || next > maxParts {
			return fail(ClassServer, fmt.Errorf("%s: the store's list of parts does not end", u.what), u.b.opts.Table)
		}
		marker = next
	}
}

// part sends one, unless the store has exactly it.
func (u *upload) part(ctx context.Context, n int32, body *io.SectionReader, whole io.Writer) error {
	sum, err := hash(body, whole)
	if err != nil {
		return unreadable(u.what, err)
	}
	check := base64Sum(sum)
	done := types.CompletedPart{PartNumber: aws.Int32(n), ChecksumSHA256: check}
	if p, ok := u.have[n]; ok && aws.ToInt64(p.Size) == body.Size() && aws.ToString(p.ChecksumSHA256) == *check && goodTag(p.ETag) {
		u.Kept += body.Size()
		done.ETag = p.ETag
		u.done = append(u.done, done)
		return nil
	}
	out, err := u.b.s3.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &u.b.opts.Bucket, Key: &u.f.Key, UploadId: &u.id, PartNumber: aws.Int32(n),
		Body: body, ContentLength: aws.Int64(body.Size()), ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ChecksumSHA256: check,
	}, signed(sum))
	if err != nil {
		return u.b.explain(fmt.Sprintf("%s, part %d", u.what, n), err)
	}
	if !goodTag(out.ETag) || out.ChecksumSHA256 != nil && *out.ChecksumSHA256 != *check {
		return fail(ClassServer, fmt.Errorf("%s: the store has something else as part %d than was sent", u.what, n), u.b.opts.Table)
	}
	u.Sent += body.Size()
	done.ETag = out.ETag
	u.done = append(u.done, done)
	return nil
}

func goodTag(tag *string) bool { return aws.ToString(tag) != "" && len(*tag) <= 200 }

// complete makes the object of its parts, which takes large stores minutes.
func (u *upload) complete(ctx context.Context) error {
	patient, err := u.b.client(u.b.patience(u.f.Size))
	if err != nil {
		return fail(ClassServer, err, u.b.opts.Table)
	}
	defer patient.Close()
	if err := u.keep(stageObject); err != nil {
		return err
	}
	err = u.b.withCondition(func() error {
		_, err := u.b.s3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &u.b.opts.Bucket, Key: &u.f.Key, UploadId: &u.id, IfNoneMatch: u.b.once(),
			MultipartUpload: &types.CompletedMultipartUpload{Parts: u.done}, ChecksumType: types.ChecksumTypeComposite,
		}, func(o *s3.Options) { o.HTTPClient = doer{patient} })
		return err
	})
	if err == nil {
		return nil
	}
	err = u.b.explain(u.what, err)
	if isClass(err, classCondition) || isClass(err, classUploadGone) {
		u.abort(ctx) // somebody else's object is there, or the parts are not what they were
	}
	return err
}

// abort lets the store drop the parts. It is best effort: stores clean up, too.
func (u *upload) abort(ctx context.Context) {
	_, err := u.b.s3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &u.b.opts.Bucket, Key: &u.f.Key, UploadId: &u.id})
	_ = err
}

// Abort drops what an upload that will not go on has left in the store. upload is
// what Begun was told.
func (b *Bucket) Abort(ctx context.Context, key, upload string) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	_, _, id := known(upload)
	_, err := b.s3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.opts.Bucket, Key: &key, UploadId: &id})
	if err = b.explain("drop an upload", err); err != nil && !isClass(err, classUploadGone) {
		return err
	}
	return nil
}
