//go:build unix

package bucket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"capagent/internal/secret"
)

var (
	campaign      = flag.Bool("bucket.campaign", false, "put a large file through many kills (needs -bucket.size of disk thrice)")
	campaignSize  = flag.Int64("bucket.size", 5_000_000_123, "bytes of the campaign's file")
	campaignKills = flag.Int("bucket.kills", 20, "kills of the campaign")
)

const childEnv = "CAPAGENT_BUCKET_CHILD"

// job is what a child is to do.
type job struct {
	URL, Path, Key, State string
	SHA256                []byte
	PartSize              int64
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		if err := child(text); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child puts one file, keeps what Begun tells in a file, and tells how far it is.
func child(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	f, err := os.Open(j.Path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	state, err := os.ReadFile(j.State)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	b, err := New(context.Background(), Options{
		Bucket: testBucket, Endpoint: j.URL, PathStyle: true, AccessKeyID: testID, SecretAccessKey: secret.New(testSecret), Table: "cado", PartSize: j.PartSize,
	})
	if err != nil {
		return err
	}
	stored, err := b.Put(context.Background(), File{
		Key: j.Key, Size: info.Size(), SHA256: [sha256.Size]byte(j.SHA256), Content: f, Upload: string(state),
		Begun: func(upload string) error {
			if err := os.WriteFile(j.State+".new", []byte(upload), 0o600); err != nil {
				return err
			}
			return os.Rename(j.State+".new", j.State)
		},
		Sent: func(n int64) { fmt.Println("sent", n) },
	})
	if err != nil {
		return err
	}
	status, _ := os.ReadFile("/proc/self/status")
	peak := "0"
	for line := range strings.SplitSeq(string(status), "\n") {
		if after, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			peak = strings.Fields(after)[0]
		}
	}
	fmt.Println("done", stored.Existed, stored.Sent, stored.Kept, peak)
	return nil
}

// run runs a child until it ends, or until kill says that it is to be killed. It
// returns its last line.
func (j job) run(t *testing.T, kill func(sent int64) bool) (last string, killed bool) {
	t.Helper()
	text, _ := json.Marshal(j)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last = lines.Text()
		n, err := strconv.ParseInt(strings.TrimPrefix(last, "sent "), 10, 64)
		if err == nil && !killed && kill(n) {
			killed = true
			time.Sleep(rand.N(60 * time.Millisecond)) // somewhere in the next part
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Wait()
	return last, killed
}

// writeFile makes a file of mostly nothing whose every MiB is another one.
func writeFile(t *testing.T, path string, size int64) []byte {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{1})
	block := make([]byte, 4<<10)
	for at := int64(0); at+int64(len(block)) <= size; at += 1 << 20 {
		_, _ = random.Read(block)
		if _, err := f.WriteAt(block, at); err != nil {
			t.Fatal(err)
		}
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, size)); err != nil {
		t.Fatal(err)
	}
	return h.Sum(nil)
}

// throughKills puts a file of that size although its process is killed so often.
func throughKills(t *testing.T, size int64, partSize int64, kills int) {
	g := startGateway(t)
	dir := t.TempDir()
	j := job{URL: g.url, Path: filepath.Join(dir, "file"), Key: "a/large.pcap", State: filepath.Join(dir, "state"), PartSize: partSize}
	j.SHA256 = writeFile(t, j.Path, size)
	o := g.options()
	o.PartSize = partSize
	b := newBucket(t, o)
	start := time.Now()
	step := size / int64(kills+1)
	did, last := 0, ""
	for attempt := range 3*kills + 1 {
		target := int64(did+1) * step
		if did == kills-1 {
			target = size // while the parts are put together
		}
		var killed bool
		last, killed = j.run(t, func(sent int64) bool { return did < kills && sent >= target })
		if killed {
			did++
		}
		if strings.HasPrefix(last, "done") && !killed {
			t.Logf("attempt %d: %s", attempt+1, last)
			break
		}
		if strings.HasPrefix(last, "error") {
			t.Fatal(last)
		}
	}
	if did < kills || !strings.HasPrefix(last, "done") {
		t.Fatalf("%d kills, %s", did, last)
	}
	t.Logf("%d bytes, %d kills, %s", size, did, time.Since(start).Round(time.Second))
	if words := strings.Fields(last); kills > 0 && words[2] != "0" {
		t.Errorf("%s bytes were sent after all had been", words[2])
	}
	if peak, _ := strconv.Atoi(last[strings.LastIndexByte(last, ' ')+1:]); peak > 64<<10 {
		t.Errorf("the child used %d kB", peak)
	}
	whole(t, b, j, size)
}

// whole says whether the store has the file, once.
func whole(t *testing.T, b *Bucket, j job, size int64) {
	t.Helper()
	out, err := b.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &b.opts.Bucket, Key: &j.Key}, func(o *s3.Options) { o.HTTPClient = http.DefaultClient })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Body.Close() }()
	h := sha256.New()
	n, err := io.Copy(h, out.Body)
	if err != nil || n != size || !bytes.Equal(h.Sum(nil), j.SHA256) {
		t.Errorf("%d of %d bytes arrived, or others: %v", n, size, err)
	}
	list, err := b.s3.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &b.opts.Bucket})
	if err != nil || len(list.Contents) != 1 {
		t.Errorf("%d objects: %v", len(list.Contents), err)
	}
	if n := uploads(t, b); n != 0 {
		t.Errorf("%d uploads are left over", n)
	}
}

func TestKills(t *testing.T) {
	throughKills(t, 12*part+4711, part, 4)
}

func TestAFileIsNotHeldInMemory(t *testing.T) {
	throughKills(t, 10*smallFile+4711, 0, 0)
}

func TestCampaign(t *testing.T) {
	if !*campaign {
		t.Skip("takes minutes and 15 GB: -bucket.campaign")
	}
	throughKills(t, *campaignSize, 0, *campaignKills)
}
