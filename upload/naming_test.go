package upload

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"capagent/internal/ledger"
)

func sample() ledger.Capture {
	c := ledger.Capture{Source: "import", Path: "/cases/7/disk1/Übung, 1.pcap", Name: "disk1/Übung, 1.pcap", Case: "IR-7"}
	c.Format, c.SHA256 = "pcap", "1a2b3c4d5e6f"+strings.Repeat("0", 52)
	c.First = time.Date(2026, 1, 2, 4, 4, 5, 999, time.FixedZone("CET", 3600))
	return c
}

func TestSessionNames(t *testing.T) {
	standard := DefaultConfig().Name
	for _, test := range []struct {
		name, template string
		change         func(*ledger.Capture)
		number, of     int
		want           string
	}{
		{"the default", standard, nil, 1, 1, "sensor1-import-20260102T030405Z-1a2b3c4d5e6f.pcap"},
		{"pcapng", standard, func(c *ledger.Capture) { c.Format = "pcapng" }, 1, 1, "sensor1-import-20260102T030405Z-1a2b3c4d5e6f.pcapng"},
		{"no packets", standard, func(c *ledger.Capture) { c.First = time.Time{} }, 1, 1, "sensor1-import-nopackets-1a2b3c4d5e6f.pcap"},
		{"a part", standard, nil, 2, 5, "sensor1-import-20260102T030405Z-1a2b3c4d5e6f-part02of05.pcap"},
		{"one of very many parts", standard, nil, 7, 1234, "sensor1-import-20260102T030405Z-1a2b3c4d5e6f-part0007of1234.pcap"},
		{"a watched folder", "{source}-{sha}", func(c *ledger.Capture) { c.Source = "watch:/srv/pcap in/x" }, 1, 1, "watch_srv_pcap_in_x-1a2b3c4d5e6f.pcap"},
		{"a case", "{case}.{sha}", nil, 1, 1, "IR-7.1a2b3c4d5e6f.pcap"},
		{"nothing but odd characters", "{case}{sha}", func(c *ledger.Capture) { c.Case = "../ü/\x00" }, 1, 1, "1a2b3c4d5e6f.pcap"},
		{"the user's own", standard, func(c *ledger.Capture) { c.SessionName = "my file.pcapng" }, 1, 1, "my_file.pcap"},
		{"the user's own in parts", standard, func(c *ledger.Capture) { c.SessionName = "mine" }, 1, 2, "mine-part01of02.pcap"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := sample()
			if test.change != nil {
				test.change(&c)
			}
			if got := sessionName(test.template, "sensor1", &c, test.number, test.of); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestNamesAreSafeBoundedAndUniqueByContent(t *testing.T) {
	text := rapid.String()
	rapid.Check(t, func(t *rapid.T) {
		c := sample()
		c.Source, c.Case, c.Name = text.Draw(t, "source"), text.Draw(t, "case"), text.Draw(t, "name")
		host := text.Draw(t, "host")
		template := rapid.StringMatching(`[a-z{}/ ü.-]{0,400}\{sha\}[a-z-]{0,90}`).Draw(t, "template")
		of := rapid.IntRange(1, 10000).Draw(t, "of")
		name := sessionName(template, host, &c, rapid.IntRange(1, of).Draw(t, "number"), of)
		if len(name) > maxName || safe(name, maxName) != name || !strings.HasSuffix(name, ".pcap") {
			t.Fatalf("%d bytes: %q", len(name), name)
		}
		if !strings.Contains(name, "1a2b3c4d5e6f") {
			t.Fatalf("%q does not depend on the content", name)
		}
	})
}

func TestTags(t *testing.T) {
	c := sample()
	got := Tags([]string{"mine", "by {host}", "case:{case}", "{dir}", "{name}", "{path}", "{source}", "mine", "{unknown}"}, "sensor1", &c)
	want := []string{"mine", "by sensor1", "case:IR-7", "disk1", "Übung_ 1.pcap", "/cases/7/disk1/Übung_ 1.pcap", "import", "{unknown}"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	c.Case, c.Owned = "", true
	got = Tags([]string{"case:{case}", "{dir}", "{path}", "plain"}, "sensor1", &c)
	if !slices.Equal(got, []string{"plain"}) {
		t.Errorf("tags of nothing: %q", got)
	}
	var many []string
	for i := range 33 {
		many = append(many, fmt.Sprint("t", i))
	}
	if got = Tags(many, "", &c); !slices.Equal(got, many[:30]) {
		t.Errorf("%d tags", len(got))
	}
}

func TestTagsAndCommentsAreAlwaysAcceptable(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[\x00-\x{2fff},]{0,300}`), rapid.SampledFrom([]string{"\xff\xfe", "{path}{case}", "x\nsha256: 0"}))
	rapid.Check(t, func(t *rapid.T) {
		c := sample()
		c.Name, c.Case, c.Path, c.Comment, c.Source = text.Draw(t, "name"), text.Draw(t, "case"), "/"+text.Draw(t, "path"), text.Draw(t, "comment"), text.Draw(t, "source")
		given := rapid.SliceOfN(text, 0, 40).Draw(t, "tags")
		tags := Tags(append(given, "{name}", "x{case}", "{path}", "{dir}"), "h", &c)
		seen := map[string]bool{}
		for _, tag := range tags {
			if tag == "" || len(tag) > MaxTag || strings.Contains(tag, ",") || cleanTag(tag) != tag || seen[tag] || !utf8.ValidString(tag) {
				t.Fatalf("tag %q", tag)
			}
			seen[tag] = true
		}
		if len(tags) > MaxTags {
			t.Fatalf("%d tags", len(tags))
		}
		p := ledger.Part{Number: 2, Of: 3}
		comments := sessionComments("{case} {path} {name}", "h", &c, &p)
		if len(comments) > maxComments || printable(comments) != comments || !utf8.ValidString(comments) {
			t.Fatalf("comments %q", comments)
		}
		if line := "\nsha256: "; strings.Count(c.Comment, "\n") == 0 && strings.Count(comments, line) != 1 {
			t.Fatalf("a name forges a line: %q", comments)
		}
		if !strings.Contains(comments, "sha256: "+c.SHA256) || !strings.Contains(comments, "part 2 of 3") {
			t.Fatalf("comments %q lack the facts", comments)
		}
	})
}
