package bucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/internal/secret"
)

const part = 5 << 20 // S3's least

func parts(o *Options) { o.PartSize = part }

func TestFilesArriveOnceAndWhole(t *testing.T) {
	g := startGateway(t)
	o := g.options()
	parts(&o)
	b := newBucket(t, o)
	for name, size := range map[string]int{"empty": 0, "small": 1000, "one-part": part, "two-parts": part + 1, "more": 3*part + 12345} {
		t.Run(name, func(t *testing.T) {
			data := content(1, size)
			f := file("a/"+name+".pcap", data)
			begun := 0
			f.Begun = func(string) error { begun++; return nil }
			stored, err := b.Put(t.Context(), f)
			if err != nil || stored.Existed || stored.Sent != f.Size {
				t.Fatalf("%+v %v", stored, err)
			}
			if (begun == 2) != (size > part) {
				t.Errorf("begun %d times", begun)
			}
			if got := object(t, b, f.Key); !bytes.Equal(got, data) {
				t.Errorf("%d bytes arrived", len(got))
			}
			stored, err = b.Put(t.Context(), f)
			if err != nil || !stored.Existed || stored.Sent != 0 {
				t.Errorf("the second time: %+v %v", stored, err)
			}
			other := file(f.Key, append(content(2, size), 'x'))
			_, err = b.Put(t.Context(), other)
			isFailure(t, err, failure.Permanent, ClassExists)
			if got := object(t, b, f.Key); !bytes.Equal(got, data) {
				t.Error("it was overwritten")
			}
		})
	}
	if n := uploads(t, b); n != 0 {
		t.Errorf("%d uploads are left over", n)
	}
}

// An attempt that ends after each part goes on where it ended.
func TestAnUploadGoesOn(t *testing.T) {
	g := startGateway(t)
	o := g.options()
	parts(&o)
	b := newBucket(t, o)
	data := content(3, 6*part+77)
	f := file("resumed.pcap", data)
	var id string
	begun, sent := 0, int64(0)
	f.Begun = func(uploadID string) error { id = uploadID; begun++; return nil }
	attempts := 0
	for {
		attempts++
		ctx, cancel := context.WithCancel(t.Context())
		f.Upload = id
		before := int64(-1)
		f.Sent = func(n int64) { // one part more than the last time
			if before < 0 {
				before = 0
			}
			if n > int64(attempts)*part-1 && n < f.Size {
				cancel()
			}
		}
		stored, err := b.Put(ctx, f)
		sent += stored.Sent
		cancel()
		if err == nil {
			break
		}
		isFailure(t, err, failure.Retry, httpx.ClassCanceled)
		if attempts > 20 {
			t.Fatal("it does not end")
		}
	}
	if begun != 2 || sent != f.Size || attempts != 7 {
		t.Errorf("begun %d times, %d of %d bytes sent in %d attempts", begun, sent, f.Size, attempts)
	}
	if got := object(t, b, f.Key); !bytes.Equal(got, data) {
		t.Errorf("%d bytes arrived", len(got))
	}
}

func TestAnUploadThatTheStoreForgotIsBegunAfresh(t *testing.T) {
	g := startGateway(t)
	o := g.options()
	parts(&o)
	b := newBucket(t, o)
	for name, id := range map[string]string{"made-up": "0123:parts:0123456789abcdef", "with-signs": "x:object:../x y&z", "nonsense": "zzz"} {
		data := content(4, part+5)
		f := file(name, data)
		f.Upload = id
		begun := ""
		f.Begun = func(id string) error { begun = id; return nil }
		if stored, err := b.Put(t.Context(), f); err != nil || stored.Kept != 0 || begun == "" || begun == id {
			t.Errorf("%s: %+v %v, begun %q", name, stored, err, begun)
		}
		if got := object(t, b, f.Key); !bytes.Equal(got, data) {
			t.Errorf("%d bytes arrived", len(got))
		}
	}
}

// Parts that are not the file's are sent again, and an upload of another file is
// begun afresh.
func TestPartsOfAnotherFileAreNotTaken(t *testing.T) {
	g := startGateway(t)
	o := g.options()
	parts(&o)
	b := newBucket(t, o)
	data, other := content(5, 3*part), content(6, 3*part)
	upload := ""
	ctx, cancel := context.WithCancel(t.Context())
	f := file("x", data)
	f.Begun = func(u string) error { upload = u; return nil }
	f.Sent = func(n int64) {
		if n >= 2*part {
			cancel()
		}
	}
	_, err := b.Put(ctx, f)
	isFailure(t, err, failure.Retry, httpx.ClassCanceled)
	_, _, id := known(upload)
	if _, err := b.s3.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: &o.Bucket, Key: &f.Key, UploadId: &id, PartNumber: aws.Int32(2), Body: bytes.NewReader(other[:part]), ChecksumSHA256: base64Sum(sha256.Sum256(other[:part]))}); err != nil {
		t.Fatal(err)
	}
	f.Upload, f.Sent = upload, nil
	stored, err := b.Put(t.Context(), f)
	if err != nil || stored.Kept != part || stored.Sent != 2*part || !bytes.Equal(object(t, b, f.Key), data) {
		t.Errorf("%+v %v", stored, err)
	}

	ctx, cancel = context.WithCancel(t.Context())
	f = file("y", data)
	f.Begun = func(u string) error { upload = u; return nil }
	f.Sent = func(int64) { cancel() }
	_, err = b.Put(ctx, f)
	isFailure(t, err, failure.Retry, httpx.ClassCanceled)
	f = file("y", other)
	f.Upload = upload
	stored, err = b.Put(t.Context(), f)
	if err != nil || stored.Kept != 0 || !bytes.Equal(object(t, b, f.Key), other) {
		t.Errorf("%+v %v", stored, err)
	}
	if n := uploads(t, b); n != 0 {
		t.Errorf("%d uploads are left over", n)
	}
}

func TestAFileThatChangedIsNotStored(t *testing.T) {
	g := startGateway(t)
	o := g.options()
	parts(&o)
	b := newBucket(t, o)
	for _, size := range []int{100, 2*part + 1} {
		f := file("changed", content(6, size))
		f.SHA256[0]++
		_, err := b.Put(t.Context(), f)
		isFailure(t, err, failure.Permanent, ClassChanged)
		f = file("short", content(6, size))
		f.Size++
		_, err = b.Put(t.Context(), f)
		isFailure(t, err, failure.Retry, ClassUnreadable)
		f = file("broken", content(6, size))
		f.Content = broken{f.Content, int64(size) - 50}
		_, err = b.Put(t.Context(), f)
		if isFailure(t, err, failure.Retry, ClassUnreadable); !errors.Is(err, errBroken) {
			t.Error(err)
		}
		for _, key := range []string{"changed", "short", "broken"} {
			if object(t, b, key) != nil {
				t.Errorf("%s of %d bytes was stored", key, size)
			}
		}
	}
}

func TestWhenTheUploadIDCantBeKept(t *testing.T) {
	g := startGateway(t)
	o := g.options()
	parts(&o)
	b := newBucket(t, o)
	f := file("x", content(7, part+1))
	full := errors.New("disk full")
	f.Begun = func(string) error { return full }
	if _, err := b.Put(t.Context(), f); !errors.Is(err, full) {
		t.Error(err)
	}
	if n := uploads(t, b); n != 0 {
		t.Errorf("%d uploads are left over", n)
	}
}

func TestTwoAtOnce(t *testing.T) {
	g := startGateway(t)
	o := g.options()
	parts(&o)
	data := content(8, 2*part+9)
	results := make(chan error, 4)
	for range cap(results) {
		b := newBucket(t, o)
		go func() {
			_, err := b.Put(t.Context(), file("same", data))
			results <- err
		}()
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if got := object(t, newBucket(t, o), "same"); !bytes.Equal(got, data) {
		t.Errorf("%d bytes arrived", len(got))
	}
}

func TestWhatAGatewayRefuses(t *testing.T) {
	g := startGateway(t)
	for _, test := range []struct {
		name   string
		change func(*Options)
		kind   failure.Kind
		class  string
	}{
		{"a wrong secret", func(o *Options) { o.SecretAccessKey = secret.New("wrong-" + testSecret) }, failure.Pause, ClassBadCredentials},
		{"an unknown key", func(o *Options) { o.AccessKeyID = "AKIDUNKNOWN" }, failure.Pause, ClassBadCredentials},
		{"a missing bucket", func(o *Options) { o.Bucket = "nothing" }, failure.Pause, ClassNoBucket},
		{"another region", func(o *Options) { o.Region = "eu-west-1" }, failure.Pause, ClassRegion},
		{"nobody there", func(o *Options) { o.Endpoint = "http://127.0.0.1:1" }, failure.Retry, httpx.ClassNetwork},
		{"plain HTTP to somewhere", func(o *Options) { o.Endpoint = "http://192.0.2.1" }, failure.Pause, httpx.ClassBadURL},
	} {
		for _, size := range []int{10, part + 1} {
			t.Run(test.name, func(t *testing.T) {
				o := g.options()
				parts(&o)
				test.change(&o)
				_, err := newBucket(t, o).Put(t.Context(), file("x", content(9, size)))
				t.Log(err, "-", isFailure(t, err, test.kind, test.class).Hint)
			})
		}
	}
}

func TestWithoutCredentials(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "credentials"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	o := Options{Bucket: testBucket, Endpoint: "http://127.0.0.1:1", PathStyle: true, Table: "cado"}
	_, err := newBucket(t, o).Put(t.Context(), file("x", nil))
	t.Log(isFailure(t, err, failure.Pause, ClassNoCredentials))

	// The chain finds a profile's.
	g := startGateway(t)
	text := "[default]\naws_access_key_id = " + testID + "\naws_secret_access_key = " + testSecret + "\n"
	if err := os.WriteFile(filepath.Join(dir, "credentials"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Endpoint = g.url
	if _, err := newBucket(t, o).Put(t.Context(), file("x", nil)); err != nil {
		t.Error(err)
	}
	o.Endpoint = ""
	_, err = newBucket(t, o).Put(t.Context(), file("x", nil))
	isFailure(t, err, failure.Pause, ClassRegion)
}
