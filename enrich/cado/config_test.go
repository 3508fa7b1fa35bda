package cado

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"capagent/internal/config"
	"capagent/internal/secret"
)

const testKey = "ThisIsNotARealKey.0123456789-abcdef"

func TestValidate(t *testing.T) {
	const good = "https://cado.example.com"
	for _, test := range []struct {
		name   string
		change func(*Config)
		key    string // "" when it is right
		text   string
	}{
		{"the defaults", func(*Config) {}, "", ""},
		{"a platform", func(c *Config) { c.URL = good + "/" }, "", ""},
		{"the manual's port", func(c *Config) { c.URL, c.APIVersion, c.AllowHTTP = "http://10.0.0.1:5000", 2, true }, "", ""},
		{"this machine", func(c *Config) { c.URL = "http://[::1]:5000/api" }, "", ""},
		{"everything", func(c *Config) {
			c.URL, c.APIKey, c.Project, c.Import, c.Method, c.Bucket = good, secret.New(testKey), "Fälle {case}", All, MethodURL, "my-bucket.x"
			c.Region, c.Endpoint, c.Prefix, c.AccessKeyID, c.SecretAccessKey = "eu-west-1", "https://s3.example.com:9000", "a/{case|agent}/b-", "AKIA", secret.New("x/+=")
			c.CloudID, c.Pins = "My Account", []string{"sha256/" + strings.Repeat("A", 43) + "="}
		}, "", ""},
		{"no prefix", func(c *Config) { c.Prefix = "" }, "", ""},
		{"plain http", func(c *Config) { c.URL = "http://cado.example" }, "url", "allow_http"},
		{"a version", func(c *Config) { c.URL = good + "/api/v3" }, "url", "api_version"},
		{"a user name", func(c *Config) { c.URL = "https://me:" + testKey + "@cado.example" }, "url", "user name"},
		{"a query", func(c *Config) { c.URL = good + "?k=" + testKey }, "url", "no query"},
		{"no URL", func(c *Config) { c.URL = "cado.example" }, "url", "full URL"},
		{"a path that goes up", func(c *Config) { c.URL = good + "/../x" }, "url", "plain words"},
		{"another version", func(c *Config) { c.APIVersion = 1 }, "api_version", "3 or 2"},
		{"a key with a line end", func(c *Config) { c.APIKey = secret.New(testKey + "\n") }, "api_key", "without blanks"},
		{"an unknown placeholder", func(c *Config) { c.Project = "{host}" }, "project", "unknown placeholder"},
		{"an open brace", func(c *Config) { c.Project = "{case" }, "project", "}"},
		{"a closed brace", func(c *Config) { c.Project = "case}" }, "project", "{"},
		{"no project", func(c *Config) { c.Project = "" }, "project", "template"},
		{"a long project", func(c *Config) { c.Project = strings.Repeat("x", 300) }, "project", "at most"},
		{"an import of some", func(c *Config) { c.Import = "some" }, "import", "flagged"},
		{"a method of nobody", func(c *Config) { c.Method = "ftp" }, "method", "presigned"},
		{"v2 and a URL", func(c *Config) { c.APIVersion, c.Method = 2, MethodURL }, "method", "s3"},
		{"a bucket with capitals", func(c *Config) { c.Bucket = "Bucket" }, "bucket", "3 to 63"},
		{"a region with a slash", func(c *Config) { c.Region = "eu/1" }, "region", "eu-west-1"},
		{"an endpoint with a path", func(c *Config) { c.Endpoint = good + "/bucket" }, "endpoint", "no path"},
		{"a plain endpoint", func(c *Config) { c.Endpoint = "http://s3.example" }, "endpoint", "allow_http"},
		{"a prefix from the root", func(c *Config) { c.Prefix = "/x" }, "prefix", "folders"},
		{"a prefix that goes up", func(c *Config) { c.Prefix = "a/../b" }, "prefix", "folders"},
		{"a prefix with a blank", func(c *Config) { c.Prefix = "a b/" }, "prefix", "letters"},
		{"a key without its secret", func(c *Config) { c.AccessKeyID = "AKIA" }, "secret_access_key", "belongs"},
		{"a secret without its key", func(c *Config) { c.SecretAccessKey = secret.New(testKey) }, "access_key_id", "belongs"},
		{"a key with a line end", func(c *Config) { c.AccessKeyID, c.SecretAccessKey = "a\n", secret.New(testKey) }, "access_key_id", "blanks"},
		{"a cloud with a control character", func(c *Config) { c.CloudID = "a\x00" }, "cloud_id", "account"},
		{"an impatient poll", func(c *Config) { c.Poll = config.Duration(time.Millisecond) }, "poll", "1s"},
		{"a short timeout", func(c *Config) { c.Timeout = 0 }, "timeout", "1s"},
		{"a bad pin", func(c *Config) { c.Pins = []string{"x"} }, "pins", "sha256/"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := DefaultConfig()
			test.change(&c)
			wrong := c.Validate()
			if test.key == "" {
				if len(wrong) > 0 {
					t.Fatal(config.Errors(wrong))
				}
				return
			}
			if len(wrong) == 0 || wrong[0].Key != "cado."+test.key || !strings.Contains(wrong[0].Error(), test.text) {
				t.Fatalf("got %v", config.Errors(wrong))
			}
			if strings.Contains(config.Errors(wrong).Error(), testKey) {
				t.Error("the text repeats the value")
			}
		})
	}
}

func TestMissing(t *testing.T) {
	key := secret.New(testKey)
	for _, test := range []struct {
		c    Config
		want string
	}{
		{Config{}, "cado.url cado.api_key"},
		{Config{URL: "https://x"}, "cado.api_key"},
		{Config{URL: "https://x", APIKey: key, APIVersion: 2, Import: Never}, ""},
		{Config{URL: "https://x", APIKey: key, APIVersion: 2, Import: All}, "cado.bucket"},
		{Config{URL: "https://x", APIKey: key, APIVersion: 3, Import: All}, ""},
		{Config{URL: "https://x", APIKey: key, APIVersion: 3, Import: Flagged, Method: MethodS3}, "cado.bucket"},
	} {
		var keys []string
		for _, e := range test.c.Missing() {
			keys = append(keys, e.Key)
		}
		if got := strings.Join(keys, " "); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestDefaultsAndDestination(t *testing.T) {
	c := DefaultConfig()
	if c.Import != Never || c.DryRun || c.APIVersion != 3 || c.How() != MethodPresigned {
		t.Errorf("%+v", c)
	}
	if c.Bucket = "b"; c.How() != MethodS3 {
		t.Error(c.How())
	}
	for in, want := range map[string]string{
		"https://CADO.example:443/": "https://cado.example", "http://h:5000/api": "http://h:5000", "https://h/cado/api/": "https://h/cado", "": "",
	} {
		if c.URL = in; c.Destination() != want {
			t.Errorf("%s: %s", in, c.Destination())
		}
	}
}

func TestTemplates(t *testing.T) {
	at := time.Date(2026, 3, 1, 23, 30, 0, 0, time.FixedZone("", -3600)) // the next day in UTC
	for _, test := range []struct{ template, agent, of, want string }{
		{"{case|agent}-{date}", "sensor1", "", "sensor1-2026-03-02"},
		{"{case|agent}-{date}", "sensor1", "IR-7", "IR-7-2026-03-02"},
		{"{day}", "sensor1", "", "2026-03-02"},
		{"x {case}", "sensor1", "", "x"},
		{"{case}", "a", "  two\nlines\x1b ", "two lines"},
	} {
		c := Config{Project: test.template}
		if got := c.ProjectName(Values{test.agent, test.of, at}); got != test.want {
			t.Errorf("%s: %q", test.template, got)
		}
	}
	c := DefaultConfig()
	a, b := c.ProjectName(Values{"a", strings.Repeat("x", 100) + "1", at}), c.ProjectName(Values{"a", strings.Repeat("x", 100) + "2", at})
	if a == b || utf8.RuneCountInString(a) != maxProjectName {
		t.Errorf("%q %q", a, b)
	}
	if got := c.Key(Values{"sensor1", "", at}, "a.pcap"); got != "capagent/sensor1/2026-03-02/a.pcap" {
		t.Error(got)
	}
}

// Whatever agents, cases and files are called: names stay short, keys stay in
// their folder, and different names stay different.
func TestNamesFromOutside(t *testing.T) {
	c := DefaultConfig()
	hostile := rapid.OneOf(rapid.String(), rapid.StringMatching(`[./\x00-\x{2fff}]{0,300}`), rapid.SampledFrom([]string{"..", ".", "", "a/../b", "\xff", "%2e%2e", strings.Repeat("x", 400) + ".pcap"}))
	rapid.Check(t, func(t *rapid.T) {
		v := Values{hostile.Draw(t, "agent"), hostile.Draw(t, "case"), time.Unix(1e9, 0)}
		name, other := hostile.Draw(t, "name"), hostile.Draw(t, "other")
		key := c.Key(v, name)
		if p := c.ProjectName(v); utf8.RuneCountInString(p) > maxProjectName || line(p, maxName*2) != p {
			t.Fatalf("project %q", p)
		}
		if len(key) > maxObjectKey || strings.Count(key, "/") != 3 || strings.Contains("/"+key+"/", "/../") || strings.ContainsFunc(key, func(r rune) bool { return r != '/' && !plainInKey(r) }) {
			t.Fatalf("key %q", key)
		}
		if (c.Key(v, other) == key) != (other == name) {
			t.Fatalf("%q and %q are both %q", name, other, key)
		}
	})
}
