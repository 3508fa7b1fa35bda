package bucket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"capagent/internal/failure"
	"capagent/internal/httpx"
)

// Classes of failures. httpx adds "network", "tls" and "canceled".
const (
	ClassBadCredentials = "bad_credentials"
	ClassNoCredentials  = "no_credentials"
	ClassClock          = "clock"
	ClassDenied         = "denied"
	ClassNoBucket       = "no_bucket"
	ClassRegion         = "bad_region"
	ClassExists         = "exists"
	ClassChanged        = "changed"
	ClassFull           = "store_full"
	ClassBusy           = "busy"
	ClassServer         = "server_error"
	ClassDamaged        = "damaged"
	ClassRefused        = "refused"
	ClassUnreadable     = "unreadable"

	classUploadGone = "upload_gone"
	classCondition  = "condition"
)

type class struct {
	kind failure.Kind
	hint string // %s is the configuration's table
}

// classes says what each class means for the work, and what a user can do.
var classes = map[string]class{
	ClassBadCredentials: {failure.Pause, "check [%s] access_key_id and secret_access_key: the store does not take them"},
	ClassNoCredentials:  {failure.Pause, "set [%s] access_key_id and secret_access_key, or give this machine AWS credentials: environment, profile or role"},
	ClassClock:          {failure.Pause, "set this machine's clock right: S3 refuses requests that are more than 15 minutes off"},
	ClassDenied:         {failure.Pause, "allow the key of [%s] s3:PutObject, s3:GetObject, s3:ListBucket, s3:ListMultipartUploadParts and s3:AbortMultipartUpload on the bucket"},
	ClassNoBucket:       {failure.Pause, "check [%s] bucket and endpoint: there is no such bucket"},
	ClassRegion:         {failure.Pause, "set [%s] region to the bucket's, and endpoint only for stores that are not Amazon's"},
	ClassExists:         {failure.Permanent, "give each agent a folder of its own in [%s] prefix, or move the object away"},
	ClassChanged:        {failure.Permanent, "the file is not what it was when it was recorded; record it again"},
	ClassFull:           {failure.Pause, "make room in the store of [%s] bucket, or raise its quota"},
	ClassBusy:           {failure.Retry, "the store asks for fewer requests; the agent tries again"},
	ClassServer:         {failure.Retry, "the store has a problem of its own; its log says more"},
	ClassDamaged:        {failure.Retry, "the data was damaged on the way; the agent sends it again"},
	ClassRefused:        {failure.Permanent, "the store refuses this object; its text says why"},
	classUploadGone:     {failure.Retry, "the agent begins the upload again"},
	classCondition:      {failure.Retry, "somebody else stores the same key; the agent looks again"},
}

func fail(name string, err error, table string) *failure.Error {
	c := classes[name]
	return &failure.Error{Kind: c.kind, Class: name, Hint: strings.ReplaceAll(c.hint, "%s", cmp.Or(table, "s3")), Err: err}
}

// codes are the stores' own words (S3's list of error codes, and what others add).
var codes = map[string]string{
	"InvalidAccessKeyId": ClassBadCredentials, "SignatureDoesNotMatch": ClassBadCredentials, "InvalidToken": ClassBadCredentials,
	"ExpiredToken": ClassBadCredentials, "TokenRefreshRequired": ClassBadCredentials, "InvalidSecurity": ClassBadCredentials, "XAdminUserNotFound": ClassBadCredentials,
	"RequestTimeTooSkewed": ClassClock, "RequestExpired": ClassClock,
	"AccessDenied": ClassDenied, "AllAccessDisabled": ClassDenied, "AccountProblem": ClassDenied,
	"NoSuchBucket": ClassNoBucket, "InvalidBucketName": ClassNoBucket,
	"PermanentRedirect": ClassRegion, "AuthorizationHeaderMalformed": ClassRegion, "IllegalLocationConstraintException": ClassRegion,
	"NoSuchUpload": classUploadGone, "InvalidPart": classUploadGone,
	"PreconditionFailed": classCondition, "ConditionalRequestConflict": classCondition,
	"SlowDown": ClassBusy, "ServiceUnavailable": ClassBusy, "RequestTimeout": ClassBusy, "TooManyRequests": ClassBusy, "Throttling": ClassBusy,
	"InsufficientStorage": ClassFull, "QuotaExceeded": ClassFull, "XMinioStorageFull": ClassFull, "XMinioAdminBucketQuotaExceeded": ClassFull, "NoSpaceLeft": ClassFull,
	"BadDigest": ClassDamaged, "InvalidDigest": ClassDamaged, "XAmzContentSHA256Mismatch": ClassDamaged, "IncompleteBody": ClassDamaged, "InvalidRequest": ClassRefused,
}

func byStatus(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return ClassBadCredentials
	case http.StatusForbidden:
		return ClassDenied
	case http.StatusInsufficientStorage:
		return ClassFull
	case http.StatusPreconditionFailed, http.StatusConflict:
		return classCondition
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusRequestTimeout, http.StatusBadGateway, http.StatusGatewayTimeout:
		return ClassBusy
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusFound:
		return ClassRegion
	}
	if status >= 400 && status < 500 {
		return ClassRefused
	}
	return ClassServer
}

// explain turns an error of the SDK into one that says what happened.
func (b *Bucket) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	var own *failure.Error
	if errors.As(err, &own) { // of httpx
		f := *own
		if f.Class == httpx.ClassRedirect {
			f = *fail(ClassRegion, own.Err, b.opts.Table)
		}
		f.Err = fmt.Errorf("%s: %w", what, f.Err)
		return &f
	}
	for _, ended := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, ended) {
			return &failure.Error{Class: httpx.ClassCanceled, Err: fmt.Errorf("%s: %w", what, ended)}
		}
	}
	n, word := status(err), code(err)
	if n == 0 && word == "" {
		return fail(ClassServer, fmt.Errorf("%s: the answer of %s makes no sense: %s", what, b.host(), b.clean(err.Error())), b.opts.Table)
	}
	class, ok := codes[word]
	if !ok {
		class = byStatus(n)
	}
	said := word
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorMessage() != "" {
		said += ": " + api.ErrorMessage()
	}
	f := fail(class, fmt.Errorf("%s: %s says %d %s", what, b.host(), n, b.clean(said)), b.opts.Table)
	if f.Kind == failure.Retry {
		f.RetryAfter = retryAfter(err, b.now())
	}
	return f
}

func status(err error) int {
	var r *smithyhttp.ResponseError
	if errors.As(err, &r) {
		return r.HTTPStatusCode()
	}
	return 0
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func retryAfter(err error, now time.Time) time.Duration {
	var r *smithyhttp.ResponseError
	if errors.As(err, &r) && r.Response != nil {
		return httpx.RetryAfter(r.Response.Header, now)
	}
	return 0
}

func isClass(err error, class string) bool {
	var f *failure.Error
	return errors.As(err, &f) && f.Class == class
}
