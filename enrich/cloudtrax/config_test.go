package cloudtrax

import (
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/config"
	"capagent/internal/secret"
)

const testSecret = "0032665e503e866e331408bdb1edf02041abc53d21f6b9d70ce4495bee1de31d"

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Config)
		key    string // "" when it is right
		text   string
	}{
		{"the defaults", func(*Config) {}, "", ""},
		{"everything", func(c *Config) {
			c.URL, c.Key, c.Secret, c.Networks = "https://api-v2.cloudtrax.com/", strings.Repeat("ab", 32), secret.New(testSecret), []string{"1", "12345"}
			c.SurveyEvery, c.Pins, c.BlockNever = 0, []string{"sha256/" + strings.Repeat("A", 43) + "="}, []string{"00-11-22-AA-BB-CC"}
		}, "", ""},
		{"plain http to this machine", func(c *Config) { c.URL = "http://127.0.0.1:8080" }, "", ""},
		{"plain http that is allowed", func(c *Config) { c.URL, c.AllowHTTP = "http://ct.example", true }, "", ""},
		{"plain http", func(c *Config) { c.URL = "http://ct.example" }, "url", "allow_http"},
		{"no URL", func(c *Config) { c.URL = "" }, "url", "full URL"},
		{"no protocol", func(c *Config) { c.URL = "api.cloudtrax.com" }, "url", "full URL"},
		{"a path", func(c *Config) { c.URL = "https://ct.example/v1" }, "url", "no path"},
		{"a query", func(c *Config) { c.URL = "https://ct.example/?k=" + testSecret }, "url", "no query"},
		{"a user name", func(c *Config) { c.URL = "https://me:" + testSecret + "@ct.example" }, "url", "user name"},
		{"a key with a comma", func(c *Config) { c.Key = testSecret + ",nonce=x" }, "key", "letters and digits"},
		{"a key with a line end", func(c *Config) { c.Key = "a\r\nb" }, "key", "letters and digits"},
		{"a secret with a line end", func(c *Config) { c.Secret = secret.New(testSecret + "\n") }, "secret", "without blanks"},
		{"a long secret", func(c *Config) { c.Secret = secret.New(strings.Repeat("x", maxSecret+1)) }, "secret", "expected"},
		{"a network by name", func(c *Config) { c.Networks = []string{"1", "HQ"} }, "networks", "network 2"},
		{"a network that is a path", func(c *Config) { c.Networks = []string{"1/../2"} }, "networks", "digits only"},
		{"many networks", func(c *Config) { c.Networks = strings.Split(strings.Repeat("1,", maxNetworks)+"1", ",") }, "networks", "at most"},
		{"clients too often", func(c *Config) { c.ClientsEvery = config.Duration(time.Second) }, "clients_every", "1m to 1h"},
		{"clients too seldom", func(c *Config) { c.ClientsEvery = config.Duration(2 * time.Hour) }, "clients_every", "1m to 1h"},
		{"nodes never", func(c *Config) { c.NodesEvery = 0 }, "nodes_every", "1m to 8h"},
		{"switches seldom", func(c *Config) { c.SwitchesEvery = config.Duration(9 * time.Hour) }, "switches_every", "1m to 8h"},
		{"a survey too often", func(c *Config) { c.SurveyEvery = 1 }, "survey_every", "1m to 8h"},
		{"a short timeout", func(c *Config) { c.Timeout = 0 }, "timeout", "1s"},
		{"a bad pin", func(c *Config) { c.Pins = []string{"x"} }, "pins", "sha256/"},
		{"an exception that is none", func(c *Config) { c.BlockNever = []string{"reception-ipad"} }, "block_never", "entry 1"},
		{"many blocks", func(c *Config) { c.BlockPerHour = 101 }, "block_per_hour", "0 to 100"},
		{"a short block", func(c *Config) { c.BlockFor = 0 }, "block_for", "1m to 30d"},
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
			if len(wrong) == 0 || wrong[0].Key != "cloudtrax."+test.key || !strings.Contains(wrong[0].Error(), test.text) {
				t.Fatalf("got %v", config.Errors(wrong))
			}
			if strings.Contains(config.Errors(wrong).Error(), testSecret) {
				t.Error("the text repeats the value")
			}
			if c.Key == "" {
				c.Key = "k"
			}
			if c.Secret.IsZero() {
				c.Secret = secret.New("s")
			}
			if _, err := NewReader(c, "test", zerolog.Nop()); err == nil {
				t.Error("a reader is made of it")
			}
		})
	}
}

func TestMissingAndDestination(t *testing.T) {
	for _, test := range []struct {
		c    Config
		want string
	}{
		{Config{}, "cloudtrax.key cloudtrax.secret"},
		{Config{Key: "x"}, "cloudtrax.secret"},
		{Config{Secret: secret.New("x")}, "cloudtrax.key"},
		{Config{Key: "x", Secret: secret.New("x")}, ""},
	} {
		var keys []string
		for _, e := range test.c.Missing() {
			keys = append(keys, e.Key)
		}
		if got := strings.Join(keys, " "); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
	for in, want := range map[string]string{"https://API.cloudtrax.com:443/": "https://api.cloudtrax.com", "": "", "x": ""} {
		c := Config{URL: in}
		if got := c.Destination(); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
	if c := DefaultConfig(); c.Block || !c.BlockDryRun || c.BlockPerHour != 3 || c.BlockFor.Std() != time.Hour {
		t.Errorf("%+v", c)
	}
}
