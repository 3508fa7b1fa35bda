package upload

import (
	"strings"
	"testing"

	"capagent/internal/secret"
)

func TestValidate(t *testing.T) {
	const good = "https://cs.example"
	pin := "sha256/" + strings.Repeat("A", 43) + "="
	for _, test := range []struct {
		name   string
		change func(*Config)
		key    string // "" when it is right
		text   string
	}{
		{"the defaults", func(*Config) {}, "", ""},
		{"everything", func(c *Config) {
			c.URL, c.Token, c.Pins, c.Method = good, secret.New(canary), []string{pin}, "post"
			c.Tags, c.Comments, c.Bandwidth = []string{"a", "case:{case}"}, "by {host}", 1024
		}, "", ""},
		{"a port and a final slash", func(c *Config) { c.URL = "https://[::1]:8443/" }, "", ""},
		{"plain http to 127.0.0.1", func(c *Config) { c.URL = "http://127.0.0.1:8080" }, "", ""},
		{"plain http to ::1", func(c *Config) { c.URL = "http://[::1]" }, "", ""},
		{"plain http to localhost", func(c *Config) { c.URL = "http://LocalHost" }, "", ""},
		{"plain http that is allowed", func(c *Config) { c.URL, c.AllowHTTP = "http://cs.example", true }, "", ""},
		{"plain http", func(c *Config) { c.URL = "http://cs.example" }, "url", "allow_http"},
		{"plain http to a name that only looks local", func(c *Config) { c.URL = "http://localhost.evil.example" }, "url", "https"},
		{"plain http to an address that only looks local", func(c *Config) { c.URL = "http://127.0.0.1.evil.example" }, "url", "https"},
		{"no protocol", func(c *Config) { c.URL = "cs.example" }, "url", "full URL with its protocol"},
		{"host and port alone", func(c *Config) { c.URL = "cs.example:443" }, "url", "full URL"},
		{"no host", func(c *Config) { c.URL = "https://" }, "url", "full URL"},
		{"a port alone", func(c *Config) { c.URL = "https://:443" }, "url", "full URL"},
		{"another protocol", func(c *Config) { c.URL = "ftp://cs.example" }, "url", "full URL"},
		{"a file", func(c *Config) { c.URL = "file:///etc/passwd" }, "url", "full URL"},
		{"a user name", func(c *Config) { c.URL = "https://me:" + canary + "@cs.example" }, "url", "user name"},
		{"the API's address", func(c *Config) { c.URL = good + "/api/v1/" + canary + "/upload" }, "url", "cloudshark.token"},
		{"a path", func(c *Config) { c.URL = good + "/" + canary }, "url", "without a path"},
		{"a query", func(c *Config) { c.URL = good + "?t=" + canary }, "url", "without a path"},
		{"an empty query", func(c *Config) { c.URL = good + "?" }, "url", "without a path"},
		{"a fragment", func(c *Config) { c.URL = good + "#" + canary }, "url", "without a path"},
		{"nonsense", func(c *Config) { c.URL = "https://" + canary + "\x7f" }, "url", "full URL"},
		{"a short token", func(c *Config) { c.Token = secret.New(canary[1:]) }, "token", "32 hex"},
		{"a long token", func(c *Config) { c.Token = secret.New(canary + "0") }, "token", "32 hex"},
		{"a token that is none", func(c *Config) { c.Token = secret.New(canary[1:] + "g") }, "token", "32 hex"},
		{"a comma in a tag", func(c *Config) { c.Tags = []string{"a", "b,c"} }, "tags", "tag 2: expected no comma"},
		{"an empty tag", func(c *Config) { c.Tags = []string{" "} }, "tags", "found nothing"},
		{"a control character in a tag", func(c *Config) { c.Tags = []string{"a\x00"} }, "tags", "control"},
		{"too many tags", func(c *Config) { c.Tags = make([]string, 31) }, "tags", "at most 30"},
		{"an unknown placeholder in a tag", func(c *Config) { c.Tags = []string{"{sha}"} }, "tags", `"{sha}"; known are {host}, {source}, {case}, {dir}, {name}, {path}`},
		{"an unknown placeholder in the comments", func(c *Config) { c.Comments = "{who}" }, "comments", `"{who}"; known are`},
		{"an unknown placeholder in the name", func(c *Config) { c.Name = "{sha}{name}" }, "name", `"{name}"; known are {host}, {source}, {case}, {first}, {sha}`},
		{"a name without the content's hash", func(c *Config) { c.Name = "{host}" }, "name", "{sha}"},
		{"a name with a directory", func(c *Config) { c.Name = "a/{sha}" }, "name", "directory"},
		{"another method", func(c *Config) { c.Method = "patch" }, "method", `"put" or "post"`},
		{"no concurrency", func(c *Config) { c.Concurrency = 0 }, "concurrency", "1 to 64"},
		{"a crawl", func(c *Config) { c.Bandwidth = 100 }, "bandwidth", "1KiB/s"},
		{"no patience", func(c *Config) { c.Timeout = 0 }, "timeout", "1s"},
		{"a bad pin", func(c *Config) { c.Pins = []string{pin, "sha256/"} }, "pins", "44 characters"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := DefaultConfig()
			test.change(&c)
			all := c.Validate()
			if test.key == "" {
				if len(all) > 0 {
					t.Errorf("%v", all)
				}
				return
			}
			if len(all) != 1 || all[0].Key != "cloudshark."+test.key || !strings.Contains(all[0].Error(), test.text) {
				t.Fatalf("%v, want %s: %s", all, test.key, test.text)
			}
			noCanary(t, all[0].Error())
		})
	}
}

func TestMissingKeys(t *testing.T) {
	c := DefaultConfig()
	if all := c.Missing(); len(all) != 2 || all[0].Key != "cloudshark.url" || all[1].Key != "cloudshark.token" {
		t.Errorf("%v", all)
	}
	if _, err := NewClient(c, "1"); err == nil {
		t.Error("a client of nothing")
	}
}

func TestDestination(t *testing.T) {
	for url, want := range map[string]string{
		"https://www.CloudShark.org/":  "https://www.cloudshark.org",
		"HTTPS://cs.example:443":       "https://cs.example",
		"https://cs.example:80":        "https://cs.example:80",
		"http://127.0.0.1:80/":         "http://127.0.0.1",
		"https://[2001:DB8::1]:8443":   "https://[2001:db8::1]:8443",
		"cs.example":                   "",
		"https://user@cs.example/path": "",
	} {
		c := Config{URL: url}
		if got := c.Destination(); got != want {
			t.Errorf("%s gives %q, want %q", url, got, want)
		}
	}
}
