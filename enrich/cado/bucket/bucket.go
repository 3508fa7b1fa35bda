// Package bucket puts a file into S3: whole, once, and never over something else.
//
// A file is one object under a key that the caller chose, with its SHA-256 in the
// object's metadata. Every request carries the checksum of what it sends; a large
// file goes in parts, and after a crash only those parts are sent again that the
// store does not have. At the end the store is asked what it has.
//
// Nothing of a file is held in memory but what is on its way to the socket. The
// store is not trusted: replies are bounded, redirects are not followed, and a
// store that is silent ends the attempt. Every error is a *failure.Error.
package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/internal/secret"
)

// Options say which bucket, and how it is reached.
type Options struct {
	Bucket    string
	Region    string // "": the SDK's chain; with an Endpoint us-east-1
	Endpoint  string // of a store that is not Amazon's
	PathStyle bool   // https://host/bucket instead of https://bucket.host

	AccessKeyID     string // "": the SDK's chain: environment, profiles, roles
	SecretAccessKey secret.Secret

	UserAgent  string
	Table      string        // of the configuration, that hints name
	Timeout    time.Duration // without a byte in either direction; 0: a minute
	AllowHTTP  bool
	CAFile     string
	Connecting httpx.Connecting

	// PartSize is that of large files' parts, for tests; 0: by the file's size.
	PartSize int64
}

const (
	maxReply     = 1 << 20
	askFirst     = 64 << 10         // from this size on a store is asked before a body is sent
	chainTimeout = 30 * time.Second // for one request for credentials
	thinkRate    = 10 << 20         // bytes per second that a store puts parts together
	grace        = 5 * time.Second  // more than that, where it says nothing
)

// Bucket is one bucket of a store. It is safe for concurrent use.
type Bucket struct {
	opts  Options
	http  *httpx.Client
	s3    *s3.Client
	creds aws.CredentialsProvider
	scrub *secret.Redactor
	now   func() time.Time

	// unconditional is set when the store proved to know no If-None-Match.
	unconditional atomic.Bool
}

// New returns a bucket. It reads the SDK's files and environment, and connects to
// nobody.
func New(ctx context.Context, o Options) (*Bucket, error) {
	if o.Timeout <= 0 {
		o.Timeout = httpx.DefaultIdleTimeout
	}
	if o.Bucket == "" {
		return nil, fmt.Errorf("[%s] bucket: not set", o.Table)
	}
	b := &Bucket{opts: o, scrub: secret.NewRedactor(o.SecretAccessKey), now: time.Now}
	var err error
	if b.http, err = b.client(o.Timeout); err != nil {
		return nil, fmt.Errorf("[%s] %w", o.Table, err)
	}
	load := []func(*config.LoadOptions) error{
		// Credentials come from link-local addresses, too, where the agent's own
		// client would not go.
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(chainTimeout)),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
	}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	if o.AccessKeyID != "" {
		load = append(load, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(o.AccessKeyID, o.SecretAccessKey.Reveal(), "")))
	}
	conf, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("[%s] the AWS configuration of this machine: %w", o.Table, err)
	}
	if conf.Region == "" && o.Endpoint != "" {
		conf.Region = "us-east-1"
	}
	b.creds = conf.Credentials
	b.s3 = s3.NewFromConfig(conf, func(so *s3.Options) {
		if o.Endpoint != "" {
			so.BaseEndpoint = aws.String(o.Endpoint)
		}
		so.UsePathStyle = o.PathStyle
		so.HTTPClient = doer{b.http}
		so.Retryer = aws.NopRetryer{} // who repeats the step is its caller
		so.ContinueHeaderThresholdBytes = askFirst
		// We send SHA-256 ourselves; CRC-32 in trailers is what other stores stumble over.
		so.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		so.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
	return b, nil
}

func (b *Bucket) client(idle time.Duration) (*httpx.Client, error) {
	return httpx.New(httpx.Options{
		UserAgent: b.opts.UserAgent, Table: b.opts.Table, AllowHTTP: b.opts.AllowHTTP, CAFile: b.opts.CAFile,
		IdleTimeout: idle, ConnectTimeout: min(idle, httpx.DefaultConnectTimeout), MaxReply: maxReply, Connecting: b.opts.Connecting,
	})
}

// Close drops idle connections.
func (b *Bucket) Close() { b.http.Close() }

// doer lets the SDK speak through the agent's own client: its time-outs, its limits
// on replies, its refusal of redirects.
type doer struct{ http *httpx.Client }

func (d doer) Do(req *http.Request) (*http.Response, error) {
	// Where the store is asked before a body is sent, a refusal must come through:
	// a connection that is to live on would get the body all the same, and may be
	// cut in the middle of it.
	if req.Header.Get("Expect") != "" {
		req.Close = true
		req.Proto, req.ProtoMajor, req.ProtoMinor = "HTTP/1.1", 1, 1 // else nobody waits
	}
	reply, err := d.http.Do(req)
	if err != nil {
		return nil, err
	}
	// A refusal counts even when it came early, or in pieces.
	if reply.Err != nil && reply.Status/100 == 2 {
		return nil, reply.Err
	}
	return &http.Response{
		Status: strconv.Itoa(reply.Status) + " " + http.StatusText(reply.Status), StatusCode: reply.Status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: reply.Header, Body: io.NopCloser(bytes.NewReader(reply.Body)), ContentLength: int64(len(reply.Body)), Request: req,
	}, nil
}

// ready finds credentials, so that their absence has an error of its own.
func (b *Bucket) ready(ctx context.Context) error {
	if b.s3.Options().Region == "" {
		return fail(ClassRegion, errors.New("the bucket's region is not known"), b.opts.Table)
	}
	if b.creds == nil {
		return fail(ClassNoCredentials, errors.New("there are no credentials for S3"), b.opts.Table)
	}
	if _, err := b.creds.Retrieve(ctx); err != nil {
		if ctx.Err() != nil {
			return &failure.Error{Class: httpx.ClassCanceled, Err: ctx.Err()}
		}
		return fail(ClassNoCredentials, fmt.Errorf("there are no credentials for S3: %s", b.clean(err.Error())), b.opts.Table)
	}
	return nil
}

// SignedURL returns an address from which whoever knows it may read the object for
// so long. It does not say whether there is one.
func (b *Bucket) SignedURL(ctx context.Context, key string, valid time.Duration) (secret.Secret, error) {
	if err := b.ready(ctx); err != nil {
		return secret.Secret{}, err
	}
	signed, err := s3.NewPresignClient(b.s3).PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &b.opts.Bucket, Key: &key}, s3.WithPresignExpires(valid))
	if err != nil {
		return secret.Secret{}, b.explain("sign a URL", err)
	}
	return secret.New(signed.URL), nil
}

// Place is where an object lies, for people: "s3://bucket/key".
func (b *Bucket) Place(key string) string { return "s3://" + b.opts.Bucket + "/" + key }

// clean makes a store's text fit for a line.
func (b *Bucket) clean(s string) string {
	s = b.scrub.String(s) // before it is cut: half a secret is half known
	if i := strings.Index(s, "X-Amz-Signature="); i >= 0 {
		s = s[:i]
	}
	const most = 300
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strconv.QuoteToGraphic(strings.ToValidUTF8(s, ""))
}

// host is where the bucket is, for errors.
func (b *Bucket) host() string {
	if u, err := url.Parse(b.opts.Endpoint); err == nil && u.Host != "" {
		return u.Host
	}
	return "Amazon S3"
}
