package upload

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/internal/pcapio"
	"capagent/upload/cloudsharktest"
)

func TestAnUploadArrivesAsItIs(t *testing.T) {
	for _, method := range []string{MethodPut, MethodPost} {
		for _, size := range []int{60, 9000} { // below and above minExpect
			t.Run(fmt.Sprintf("%s of packets of %d bytes", method, size), func(t *testing.T) {
				r := newRig(t, func(_ *cloudsharktest.Options, c *Config) { c.Method = method })
				data := pcap(200, size)
				c := capture(t, data)
				c.Case, c.Tags, c.Comment = "IR-7", []string{"case:IR-7"}, "found on the mail server"
				result, err := r.step.Run(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				s, got := r.stored(t)
				if !bytes.Equal(got, data) {
					t.Error("other bytes arrived")
				}
				name := "sensor1-import-20260102T030405Z-" + c.SHA256[:12] + ".pcap"
				comments := "found on the mail server\nfile: \"disk1/evidence.pcap\"\nsha256: " + c.SHA256 + "\ncase: IR-7"
				if s.Filename != name || s.Comments != comments || !slices.Equal(s.Tags, []string{"case:IR-7"}) || s.Method != strings.ToUpper(method) {
					t.Errorf("session %+v", s)
				}
				want := ledger.Result{SessionName: name, SessionID: s.ID, SessionURL: r.SessionURL(s.ID)}
				if result != want {
					t.Errorf("result %+v, want %+v", result, want)
				}
				if r.sent.Load() != int64(len(data)) {
					t.Errorf("%d bytes were counted", r.sent.Load())
				}
				q := r.Requests()[0]
				if q.ContentLength < int64(len(data)) || q.Proto != "HTTP/1.1" {
					t.Errorf("content length %d, %s", q.ContentLength, q.Proto)
				}
				if expects := q.Header.Get("Expect") != ""; expects != (len(data) >= minExpect) {
					t.Errorf("Expect is %v", expects)
				}
			})
		}
	}
}

func TestRunDoesNothingTwice(t *testing.T) {
	r := newRig(t)
	c := capture(t, pcap(3, 60))
	first, err := r.step.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	again, err := r.step.Run(t.Context(), c)
	if err != nil || again != first {
		t.Errorf("%+v, %v; want %+v", again, err, first)
	}
	if found, ok, err := r.step.Find(t.Context(), c); err != nil || !ok || found != first {
		t.Errorf("Find: %+v, %v, %v", found, ok, err)
	}
	if n := r.Counters().Stored; n != 1 {
		t.Errorf("%d sessions", n)
	}
}

func TestAKeylogGoesAlongByPost(t *testing.T) {
	r := newRig(t)
	c := capture(t, pcap(3, 60))
	keys := []byte("CLIENT_RANDOM 00 11\n")
	c.Keylog = filepath.Join(t.TempDir(), "keys.txt")
	if err := os.WriteFile(c.Keylog, keys, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.step.Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	s, _ := r.stored(t)
	if got, err := r.Keylog(s.ID); err != nil || !bytes.Equal(got, keys) || s.Method != "POST" {
		t.Errorf("%q by %s, %v", got, s.Method, err)
	}

	c = capture(t, pcap(4, 60))
	c.Keylog = filepath.Join(t.TempDir(), "missing")
	_, err := r.step.Run(t.Context(), c)
	wants(t, err, ClassUnreadable, failure.Permanent, "key log")
}

func TestWrappedFilesAreSentUnwrapped(t *testing.T) {
	data := pcap(500, 100)
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, _ = w.Write(data)
	_ = w.Close()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, wrapped := range map[string][]byte{"gzip": gz.Bytes(), "zstd": z.EncodeAll(data, nil)} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c := capture(t, wrapped)
			if c.Wrapper != name || c.PayloadSize != int64(len(data)) {
				t.Fatalf("inspected as %+v", c.Inspection)
			}
			if _, err := r.step.Run(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			s, got := r.stored(t)
			if !bytes.Equal(got, data) {
				t.Error("other bytes arrived")
			}
			if !strings.HasSuffix(s.Filename, c.SHA256[:12]+".pcap") || !strings.Contains(s.Comments, "unwrapped from "+name) {
				t.Errorf("session %+v", s)
			}
		})
		t.Run(name+" in parts", func(t *testing.T) {
			r := newRig(t, func(_ *cloudsharktest.Options, c *Config) { c.MaxPackets = 200 })
			if _, err := r.step.Run(t.Context(), capture(t, wrapped)); err != nil {
				t.Fatal(err)
			}
			r.checkParts(t, data, 3, 500)
		})
	}
	if z.Close() != nil {
		t.Error("close")
	}
}

// checkParts looks whether the sessions hold all packets of data, in order.
func (r *rig) checkParts(t *testing.T, data []byte, parts int, packets int64) {
	t.Helper()
	all := r.Sessions()
	if len(all) != parts {
		t.Fatalf("%d sessions, want %d", len(all), parts)
	}
	var sum int64
	var payload []byte
	for i, s := range all {
		sum += s.Packets
		if want := fmt.Sprintf("-part%02dof%02d.", i+1, parts); !strings.Contains(s.Filename, want) {
			t.Errorf("name %q lacks %q", s.Filename, want)
		}
		if want := fmt.Sprintf("part %d of %d of that file, %d packets from 2026-01-02T", i+1, parts, s.Packets); !strings.Contains(s.Comments, want) {
			t.Errorf("comments %q lack %q", s.Comments, want)
		}
		payload = append(payload, packetBytes(t, r.bytes(t, s.ID))...)
	}
	if sum != packets || !bytes.Equal(payload, packetBytes(t, data)) {
		t.Errorf("%d packets arrived, want %d, or others than those", sum, packets)
	}
}

func packetBytes(t *testing.T, data []byte) []byte {
	t.Helper()
	in, err := pcapio.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	var p pcapio.Packet
	for in.Next(&p) == nil {
		out = append(fmt.Appendf(out, "%d/%d:", p.Time, p.LinkType), p.Data...)
	}
	return out
}

func TestOverLimitFilesGoInParts(t *testing.T) {
	for _, test := range []struct {
		name   string
		data   []byte
		change func(*Config)
		parts  int
	}{
		{"pcap by packets", pcap(450, 60), func(c *Config) { c.MaxPackets = 100 }, 5},
		{"pcapng by packets", pcapng(450, 60), func(c *Config) { c.MaxPackets = 100 }, 5},
		{"pcap by size", pcap(450, 84), func(c *Config) { c.MaxSize = 15024 }, 3},
		{"pcapng by size", pcapng(450, 60), func(c *Config) { c.MaxSize = 20000 }, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, func(o *cloudsharktest.Options, c *Config) {
				test.change(c)
				o.MaxSize = c.MaxSize.Bytes()
			})
			result, err := r.step.Run(t.Context(), capture(t, test.data))
			if err != nil {
				t.Fatal(err)
			}
			r.checkParts(t, test.data, test.parts, 450)
			if s := r.Sessions()[0]; result.SessionID != s.ID || result.SessionName != s.Filename || result.Note != fmt.Sprintf("uploaded in %d parts", test.parts) {
				t.Errorf("result %+v", result)
			}
		})
	}
	t.Run("a packet that is over the limit alone", func(t *testing.T) {
		r := newRig(t, func(_ *cloudsharktest.Options, c *Config) { c.MaxSize = 1000 })
		_, err := r.step.Run(t.Context(), capture(t, pcap(2, 1500)))
		wants(t, err, ClassTooLarge, failure.Permanent, "max_size")
	})
}

func TestOnlyMissingPartsAreSentAgain(t *testing.T) {
	r := newRig(t, func(_ *cloudsharktest.Options, c *Config) { c.MaxPackets = 100 })
	data := pcap(450, 60)
	c := capture(t, data)
	r.SetFault(cloudsharktest.Fault{Name: "accept-drop", Filename: "part03", Times: 1})
	_, err := r.step.Run(t.Context(), c)
	wants(t, err, "network", failure.Retry, "part03of05")
	r.restart(t, r.step.opts.Config)
	result := r.persist(t, c)
	r.checkParts(t, data, 5, 450)
	if result.PossibleDuplicate || result.SessionID != r.Sessions()[0].ID {
		t.Errorf("result %+v", result)
	}
}

func TestALostLedgerFindsItsSessions(t *testing.T) {
	r := newRig(t, func(_ *cloudsharktest.Options, c *Config) { c.MaxPackets = 100 })
	c := capture(t, pcap(250, 60))
	first, err := r.step.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	r.ledger.parts = map[int64][]ledger.Part{}
	r.restart(t, r.step.opts.Config)
	again, found, err := r.step.Find(t.Context(), c)
	if err != nil || !found || again != first {
		t.Errorf("%+v, %v, %v; want %+v", again, found, err, first)
	}
}

func TestAChangedFileNeverBecomesASession(t *testing.T) {
	data := pcap(1000, 1000)
	flip := func(at int) []byte {
		other := bytes.Clone(data)
		other[at] ^= 1
		return other
	}
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, _ = w.Write(data)
	_ = w.Close()
	otherGz := bytes.Clone(gz.Bytes())
	otherGz[4] ^= 1 // the time in its header: unwraps to the same
	for _, test := range []struct {
		name          string
		before, after []byte
	}{
		{"the first byte of a packet", data, flip(40)},
		{"the last byte", data, flip(len(data) - 1)},
		{"shorter", data, data[:len(data)-1]},
		{"longer", data, append(bytes.Clone(data), 0)},
		{"empty", data, nil},
		{"another wrapper of the same content", gz.Bytes(), otherGz},
		{"a damaged wrapper", gz.Bytes(), append(bytes.Clone(gz.Bytes()[:len(gz.Bytes())-1]), 0xff)},
	} {
		for _, change := range []func(*Config){func(*Config) {}, func(c *Config) { c.MaxPackets = 300 }, func(c *Config) { c.Method = MethodPost }} {
			t.Run(test.name, func(t *testing.T) {
				r := newRig(t, func(_ *cloudsharktest.Options, c *Config) { change(c) })
				c := capture(t, test.before)
				if err := os.WriteFile(c.Path, test.after, 0o600); err != nil {
					t.Fatal(err)
				}
				_, err := r.step.Run(t.Context(), c)
				wants(t, err, ClassChanged, failure.Permanent, "no longer what was inspected")
				if n := len(r.Sessions()); n != 0 {
					t.Errorf("%d sessions", n)
				}
				if r.sent.Load() != 0 {
					t.Errorf("%d bytes are still counted", r.sent.Load())
				}
			})
		}
	}
}

// TestAFileThatGrowsWhileItIsSent appends at the moment the upload begins.
func TestAFileThatGrowsWhileItIsSent(t *testing.T) {
	r := newRig(t)
	c := capture(t, pcap(5000, 1000))
	r.step.opts.OnBytes = func(int64) {
		f, err := os.OpenFile(c.Path, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString("x")
			_ = f.Close()
		}
		if err != nil {
			t.Error(err)
		}
	}
	_, err := r.step.Run(t.Context(), c)
	wants(t, err, ClassChanged, failure.Permanent, "bytes, not")
	if n := len(r.Sessions()); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

func TestUnreadableFiles(t *testing.T) {
	r := newRig(t)
	c := capture(t, pcap(3, 60))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(c.Path, link); err != nil {
		t.Skip(err)
	}
	for _, path := range []string{link, filepath.Dir(link), filepath.Join(t.TempDir(), "missing")} {
		c.Path = path
		_, err := r.step.Run(t.Context(), c)
		wants(t, err, ClassUnreadable, failure.Permanent, "upload \"disk1/evidence.pcap\"")
	}
	if n := len(r.Requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestHostileNamesGoOutHarmless(t *testing.T) {
	r := newRig(t, func(_ *cloudsharktest.Options, c *Config) {
		c.Comments = "{case} {name}"
	})
	for i, name := range []string{
		"a,b\x1b[31m\nc.pcap", "../../etc/passwd", strings.Repeat("ü", 127), "\xff\xfe.pcap", `"quote"; rm -rf.pcap`,
		"{sha}{case}{path}", "CON", "a:b", "\u202Efdp.exe", "%2e%2e%2f?x=1&y#z", " ", "-rf",
	} {
		c := capture(t, pcap(i+1, 60))
		c.Name, c.Source = name, "watch:/srv/"+name
		c.Case = name
		c.Path = moved(t, c.Path, name)
		c.Tags = Tags([]string{"{name}", "dir:{dir}", "{path}", "{case}", "plain", "plain"}, "sensor1", &c)
		result, err := r.step.Run(t.Context(), c)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		s, _ := r.Session(result.SessionID)
		if safe(s.Filename, maxName) != s.Filename {
			t.Errorf("%q became %q", name, s.Filename)
		}
		for _, tag := range s.Tags {
			if cleanTag(tag) != tag || len(tag) > MaxTag {
				t.Errorf("%q: tag %q", name, tag)
			}
		}
		if strings.ContainsAny(s.Comments, "\x1b\r\u202e") || len(s.Comments) > maxComments {
			t.Errorf("%q: comments %q", name, s.Comments)
		}
	}
}

// moved gives the file a name of its own where the file system takes it.
func moved(t *testing.T, path, name string) string {
	to := filepath.Join(filepath.Dir(path), name)
	if filepath.Dir(to) != filepath.Dir(path) || os.Rename(path, to) != nil {
		return path
	}
	return to
}

func TestLongQueriesGoByPost(t *testing.T) {
	r := newRig(t)
	c := capture(t, pcap(3, 60))
	c.Comment = strings.Repeat("ж", 2000)
	for i := range MaxTags {
		c.Tags = append(c.Tags, fmt.Sprint(i, strings.Repeat("x", 90)))
	}
	if _, err := r.step.Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	s, _ := r.stored(t)
	if s.Method != "POST" || len(s.Tags) != MaxTags || !strings.Contains(s.Comments, c.SHA256) {
		t.Errorf("%s, %d tags, comments %q", s.Method, len(s.Tags), s.Comments)
	}
}

func TestAnUploadedSessionIsRecordedEvenWhenTheCallerGivesUp(t *testing.T) {
	r := newRig(t)
	c := capture(t, pcap(3, 60))
	ctx, cancel := context.WithCancel(t.Context())
	r.step.opts.Ledger = cancelling{r.ledger, cancel}
	if _, err := r.step.Run(ctx, c); err != nil {
		t.Fatal(err)
	}
	r.ledger.fail = errors.New("disk full")
	r.step.opts.Ledger = r.ledger
	if _, err := r.step.Run(t.Context(), capture(t, pcap(4, 60))); !errors.Is(err, r.ledger.fail) {
		t.Errorf("got %v", err)
	}
}

type cancelling struct {
	*memory
	cancel func()
}

func (c cancelling) FinishPart(ctx context.Context, id int64, number int, session string, doubt bool) error {
	c.cancel()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.memory.FinishPart(ctx, id, number, session, doubt)
}

func TestTheStepSaysWhatItSentInTheQuery(t *testing.T) {
	r := newRig(t)
	c := capture(t, pcap(3, 60))
	c.Tags = []string{"a", "b c"}
	if _, err := r.step.Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	q := r.Requests()[0]
	want := url.Values{
		"filename":        {"sensor1-import-20260102T030405Z-" + c.SHA256[:12] + ".pcap"},
		"additional_tags": {"a,b c"},
		"comments":        {"file: \"disk1/evidence.pcap\"\nsha256: " + c.SHA256},
	}
	if marshalled(t, q.Query) != marshalled(t, want) || q.ContentLength != c.Size {
		t.Errorf("query %v, length %d", q.Query, q.ContentLength)
	}
}
