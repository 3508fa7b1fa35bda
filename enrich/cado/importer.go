package cado

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"capagent/enrich/cado/bucket"
	"capagent/internal/quote"
)

// How long what may still come is waited for, in poll intervals.
const (
	settlePolls   = 1  // an import that was asked for when the agent was killed
	unnamedPolls  = 60 // a pipeline that does not say yet what it imports
	followPolls   = 3  // the processing that follows an import
	pipelinePolls = 10 // the pipeline that follows a presigned upload
)

// urlValid is how long a platform may read what it is to import from a URL.
const urlValid = 12 * time.Hour

// Importer takes evidence into the platform, each once. It is safe for concurrent
// use, but one evidence is one caller's at a time. It has no goroutine of its own:
// while the platform works, Import ends, and is called again.
type Importer struct {
	c     *Client
	store *bucket.Bucket // nil for presigned uploads
	poll  time.Duration
}

// NewImporter returns one that uses c, which stays the caller's to close.
func NewImporter(ctx context.Context, c *Client) (*Importer, error) {
	i := &Importer{c: c, poll: c.conf.Poll.Std()}
	if c.conf.How() == MethodPresigned {
		return i, nil
	}
	if c.conf.Bucket == "" {
		return nil, errors.New("[cado] bucket: not set; expected the S3 bucket that the platform reads captures from")
	}
	o := bucket.Options{
		Bucket: c.conf.Bucket, Region: c.conf.Region, Endpoint: c.conf.Endpoint, PathStyle: c.conf.PathStyle,
		AccessKeyID: c.conf.AccessKeyID, SecretAccessKey: c.conf.SecretAccessKey,
		UserAgent: "capagent", Table: "cado", Timeout: c.conf.Timeout.Std(), AllowHTTP: c.conf.AllowHTTP, Connecting: c.conf.Connecting,
	}
	if o.Endpoint != "" { // Amazon's own certificates are public
		o.CAFile = c.conf.CAFile
	}
	var err error
	i.store, err = bucket.New(ctx, o)
	return i, err
}

// Close drops idle connections.
func (i *Importer) Close() {
	if i.store != nil {
		i.store.Close()
	}
}

// task is one call of Import.
type task struct {
	*Importer
	e    *Evidence
	p    *Progress
	save func(Progress) error
	log  []byte // the sidecar's content
}

// Import brings evidence as far as it will go, and returns how far that is. It is
// called again with what it saved last: nothing is uploaded or imported twice,
// wherever the last call ended. While the platform works it fails with
// ClassRunning, which says when to ask again. An import that the platform failed
// at is ClassFailed or ClassCancelled.
func (i *Importer) Import(ctx context.Context, e Evidence, p Progress, save func(Progress) error) (Progress, error) {
	what := "import " + quote.Text(e.Name) + " into Cado"
	if err := e.check(); err != nil {
		return p, about(what, fail(ClassBadRequest, err))
	}
	if i.c.conf.DryRun {
		return p, about(what, failf(ClassBadRequest, "[cado] dry_run is set: nothing is imported"))
	}
	t := &task{Importer: i, e: &e, p: &p, save: save, log: Log(e.Lines)}
	if p.State == "" {
		if err := t.steps(ctx); err != nil {
			return p, about(what, err)
		}
	}
	switch p.State {
	case Failed:
		return p, about(what, fail(ClassFailed, errors.New(p.Text)))
	case Cancelled:
		return p, about(what, fail(ClassCancelled, errors.New(p.Text)))
	default:
		return p, nil
	}
}

// items are the files that go to the platform. Each has an import of its own:
// v2 takes one file at a time, an import of several has one name only, by which
// nobody could tell after a crash which of them it was, and a capture that the
// platform can't read does not fail the log.
func (t *task) items() []*Item {
	if len(t.log) == 0 && t.p.Log.Pipeline == "" {
		return []*Item{&t.p.Capture}
	}
	return []*Item{&t.p.Capture, &t.p.Log}
}

func (t *task) steps(ctx context.Context) error {
	if err := t.project(ctx); err != nil {
		return err
	}
	t.p.Capture.Key = t.e.Key
	if !t.p.Log.Stored && len(t.log) > 0 {
		if key := t.e.logKey(t.log); key != t.p.Log.Key {
			t.p.Log.Key, t.p.Log.Upload = key, ""
		}
	}
	for _, item := range t.items() {
		if err := t.put(ctx, item); err != nil {
			return err
		}
	}
	for _, item := range t.items() {
		if err := t.begin(ctx, item); err != nil {
			return err
		}
	}
	return t.follow(ctx)
}

// saved saves what is known now.
func (t *task) saved() error {
	if err := t.save(*t.p); err != nil {
		return fmt.Errorf("save how far it is: %w", err)
	}
	return nil
}

func (t *task) project(ctx context.Context) error {
	if t.p.Project.ID != "" {
		return nil
	}
	p, err := t.c.EnsureProject(ctx, t.e.Project)
	if err != nil {
		return err
	}
	t.p.Project = Project{ID: p.ID, Name: p.Name}
	t.p.Link, t.p.Began = t.c.Link(), t.c.now().UTC()
	return t.saved()
}

// put stores a file in the bucket.
func (t *task) put(ctx context.Context, item *Item) error {
	if item.Stored || t.store == nil {
		return nil
	}
	body, done, err := t.open(item)
	if err != nil {
		return err
	}
	defer done()
	f := bucket.File{
		Key: item.Key, Upload: item.Upload, Size: body.Size, SHA256: body.SHA256, Content: body.Content,
		Begun: func(upload string) error {
			item.Upload = upload
			return t.saved()
		},
	}
	if item == &t.p.Log {
		f.Type = "text/plain; charset=utf-8"
	}
	stored, err := t.store.Put(ctx, f)
	if err != nil {
		return err
	}
	item.Stored, item.Existed, item.Upload = true, item.Existed || stored.Existed, ""
	return t.saved()
}

// open returns what is to be sent, and what ends its use.
func (t *task) open(item *Item) (Body, func(), error) {
	if item == &t.p.Log {
		return Body{bytes.NewReader(t.log), int64(len(t.log)), sha256.Sum256(t.log)}, func() {}, nil
	}
	content, err := t.e.Open()
	if err != nil {
		return Body{}, nil, fail(ClassUnreadable, err)
	}
	return Body{content, t.e.Size, t.e.SHA256}, func() { _ = content.Close() }, nil
}

// begin begins the import of a file, unless that was done. It saves that it is
// about to before it does; found so, it looks for the pipeline first.
func (t *task) begin(ctx context.Context, item *Item) error {
	if item.Pipeline != "" || item.over() {
		return nil
	}
	if t.store == nil && item.Stored {
		return t.awaitPipeline(ctx, item)
	}
	if !item.Asked.IsZero() || item.Existed {
		if done, err := t.begun(ctx, item); done || err != nil {
			return err
		}
	}
	item.Asked = t.c.now().UTC()
	if err := t.saved(); err != nil {
		return err
	}
	id, err := t.ask(ctx, item)
	if err != nil {
		if isRefusal(err) || isClass(err, ClassBadCredentials) { // it was not begun
			item.Asked = time.Time{}
			return errors.Join(err, t.saved())
		}
		return err
	}
	item.Pipeline = id
	return t.saved()
}

// ask begins the import, and returns its pipeline; after a presigned upload "".
func (t *task) ask(ctx context.Context, item *Item) (string, error) {
	switch t.c.conf.How() {
	case MethodS3:
		return t.c.ImportS3(ctx, t.p.Project.ID, t.c.conf.Bucket, item.Key)
	case MethodURL:
		from, err := t.store.SignedURL(ctx, item.Key, urlValid)
		if err != nil {
			return "", err
		}
		return t.c.ImportURL(ctx, t.p.Project.ID, from)
	}
	to, err := t.c.PresignedURL(ctx, t.p.Project.ID, path.Base(item.Key))
	if err != nil {
		return "", err
	}
	body, done, err := t.open(item)
	if err != nil {
		return "", err
	}
	defer done()
	if err := t.c.PutPresigned(ctx, to, body); err != nil {
		return "", err
	}
	item.Stored, item.Imported = true, t.c.now().UTC()
	return "", nil
}

// since is how long ago something was; a clock that was set back makes it long ago.
func (t *task) since(at time.Time) time.Duration {
	d := t.c.now().Sub(at)
	if at.IsZero() || d < 0 {
		return time.Duration(1 << 62)
	}
	return d
}

// begun says whether the import of a file was begun before; where that can't be
// said yet, it fails with ClassRunning.
func (t *task) begun(ctx context.Context, item *Item) (bool, error) {
	done, unnamed, err := t.find(ctx, item)
	switch {
	case done || err != nil:
		return done, err
	case unnamed != "" && t.since(item.Asked) < unnamedPolls*t.poll:
		return false, t.wait("pipeline " + unnamed + " does not say yet what it imports, and may be the one")
	case unnamed != "" && !item.Asked.IsZero(): // that is a person's to decide
		item.State, item.Past = Failed, append(slices.Clone(item.Past), unnamed)
		item.Text = "pipeline " + unnamed + " does not say what it imports, and may be the one: look there before you import again"
		return true, t.saved()
	case t.since(item.Asked) < settlePolls*t.poll:
		return false, t.wait("the import was asked for a moment ago and may still begin")
	case t.store != nil:
		return false, nil
	}
	has, err := t.c.HasEvidence(ctx, t.p.Project.ID, path.Base(item.Key))
	if err == nil && has {
		item.State, item.Stored, item.Text = Stored, true, noPipeline
		err = t.saved()
	}
	return has, err
}

// find looks for the pipeline of a file. unnamed is one of which nobody knows yet
// what it imports.
func (t *task) find(ctx context.Context, item *Item) (done bool, unnamed string, err error) {
	all, err := t.c.Pipelines(ctx, t.p.Project.ID)
	if err != nil {
		return false, "", err
	}
	var found *Pipeline
	for n := range all {
		p := &all[n]
		switch {
		case p.Project != "" && p.Project != t.p.Project.ID, slices.Contains(item.Past, p.ID):
		case p.Evidence == item.Key || p.Evidence == path.Base(item.Key):
			if found == nil || p.before(found) {
				found = p
			}
		case p.Evidence == "" && !p.State.Ended() && p.Type != typeProcessing:
			unnamed = p.ID
		}
	}
	if found == nil {
		return false, unnamed, nil
	}
	item.Pipeline, item.Stored = found.ID, true
	return true, unnamed, t.saved()
}

// before says which of two pipelines of one file the import is: not the processing
// that followed it, then the older one.
func (p *Pipeline) before(other *Pipeline) bool {
	if (p.Type == typeProcessing) != (other.Type == typeProcessing) {
		return other.Type == typeProcessing
	}
	return byAge(Project{ID: p.ID}, Project{ID: other.ID}) < 0
}

func (t *task) wait(text string) error {
	f := fail(ClassRunning, errors.New(text))
	f.RetryAfter = t.poll
	return f
}

// awaitPipeline looks for the pipeline of a presigned upload; the platform may
// begin none.
func (t *task) awaitPipeline(ctx context.Context, item *Item) error {
	if done, _, err := t.find(ctx, item); done || err != nil {
		return err
	}
	if t.since(item.Imported) < pipelinePolls*t.poll {
		return nil
	}
	item.State, item.Text = Stored, noPipeline
	return t.saved()
}
