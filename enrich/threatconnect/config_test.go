package threatconnect

import (
	"strings"
	"testing"
	"time"

	"capagent/enrich/verdict"
	"capagent/internal/config"
	"capagent/internal/secret"
)

func TestValidate(t *testing.T) {
	const good = "https://app.threatconnect.com/api"
	for _, test := range []struct {
		name   string
		change func(*Config)
		key    string // "" when it is right
		text   string
	}{
		{"the defaults", func(*Config) {}, "", ""},
		{"the public cloud", func(c *Config) { c.URL = good }, "", ""},
		{"the legacy host", func(c *Config) { c.URL = "https://api.threatconnect.com" }, "", ""},
		{"a final slash", func(c *Config) { c.URL = good + "/" }, "", ""},
		{"plain http to this machine", func(c *Config) { c.URL = "http://127.0.0.1:8080/api" }, "", ""},
		{"plain http that is allowed", func(c *Config) { c.URL, c.AllowHTTP = "http://tc.example/api", true }, "", ""},
		{"everything", func(c *Config) {
			c.URL, c.AccessID, c.SecretKey, c.APIVersion = good, testID, secret.New(`^%kTé&z!*☃`), 2
			c.Owners, c.Types, c.Pins = []string{"Common Community", `Dëmo "x"`}, []string{"ja3=JA3 Hash", "certificate = File"}, []string{"sha256/" + strings.Repeat("A", 43) + "="}
		}, "", ""},
		{"a token", func(c *Config) { c.Token = secret.New("APIV2:430:c8mTcH:1234567890123:AbCd==") }, "", ""},
		{"plain http", func(c *Config) { c.URL = "http://tc.example/api" }, "url", "allow_http"},
		{"no protocol", func(c *Config) { c.URL = "tc.example/api" }, "url", "full URL"},
		{"a version", func(c *Config) { c.URL = good + "/v3" }, "url", "api_version"},
		{"a query", func(c *Config) { c.URL = good + "?k=" + testKey }, "url", "no query"},
		{"a user name", func(c *Config) { c.URL = "https://me:" + testKey + "@tc.example/api" }, "url", "user name"},
		{"a path that proxies rewrite", func(c *Config) { c.URL = "https://tc.example/a%2fb" }, "url", "plain words"},
		{"a path with two slashes", func(c *Config) { c.URL = "https://tc.example//api" }, "url", "plain words"},
		{"a path that goes up", func(c *Config) { c.URL = "https://tc.example/x/../api" }, "url", "plain words"},
		{"another version", func(c *Config) { c.APIVersion = 1 }, "api_version", "3 or 2"},
		{"an access ID with a colon", func(c *Config) { c.AccessID = "a:b" }, "access_id", "no colon"},
		{"an access ID with a line end", func(c *Config) { c.AccessID = "a\nb" }, "access_id", "no blanks"},
		{"a token with a line end", func(c *Config) { c.Token = secret.New(testKey + "\n") }, "token", "without blanks"},
		{"a long token", func(c *Config) { c.Token = secret.New(strings.Repeat("x", maxToken+1)) }, "token", "expected"},
		{"token and key", func(c *Config) { c.Token, c.SecretKey = secret.New("x"), secret.New("y") }, "token", "one of the two"},
		{"an owner of nothing", func(c *Config) { c.Owners = []string{"A", " "} }, "owners", "owner 2"},
		{"an owner with a control character", func(c *Config) { c.Owners = []string{"A\x00"} }, "owners", "owner 1"},
		{"many owners", func(c *Config) { c.Owners = make([]string, maxOwners+1) }, "owners", "at most"},
		{"long owners", func(c *Config) {
			for range 20 {
				c.Owners = append(c.Owners, strings.Repeat("x", 90))
			}
		}, "owners", "too long together"},
		{"a type of no name", func(c *Config) { c.Types = []string{"ja3="} }, "types", "ja3=NAME"},
		{"a type that is there", func(c *Config) { c.Types = []string{"host=Host"} }, "types", "before the equals sign"},
		{"a type that can't be a file", func(c *Config) { c.Types = []string{"ja4=file"} }, "types", "MD5"},
		{"an empty exclusion", func(c *Config) { c.Exclude = []string{""} }, "exclude", "found nothing"},
		{"a rating of 6", func(c *Config) { c.MinRating = 6 }, "min_rating", "0 to 5"},
		{"a confidence of 101", func(c *Config) { c.MinConfidence = 101 }, "min_confidence", "0 to 100"},
		{"no indicators", func(c *Config) { c.MaxIndicators = 0 }, "max_indicators", "1 to"},
		{"a short TTL", func(c *Config) { c.TTL = config.Duration(time.Second) }, "ttl", "1m"},
		{"a short negative TTL", func(c *Config) { c.NegativeTTL = 0 }, "negative_ttl", "1m"},
		{"no rate", func(c *Config) { c.Rate = 0 }, "rate", "0.01"},
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
			if len(wrong) == 0 || wrong[0].Key != "threatconnect."+test.key || !strings.Contains(wrong[0].Error(), test.text) {
				t.Fatalf("got %v", config.Errors(wrong))
			}
			if strings.Contains(config.Errors(wrong).Error(), testKey) {
				t.Error("the text repeats the value")
			}
		})
	}
}

func TestMissing(t *testing.T) {
	for _, test := range []struct {
		c    Config
		want string
	}{
		{Config{}, "threatconnect.url threatconnect.access_id"},
		{Config{URL: "https://tc.example/api"}, "threatconnect.access_id"},
		{Config{URL: "https://tc.example/api", AccessID: "x"}, "threatconnect.secret_key"},
		{Config{URL: "https://tc.example/api", SecretKey: secret.New("x")}, "threatconnect.access_id"},
		{Config{URL: "https://tc.example/api", AccessID: "x", SecretKey: secret.New("x")}, ""},
		{Config{URL: "https://tc.example/api", Token: secret.New("x")}, ""},
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

func TestDestinationAndThreshold(t *testing.T) {
	c := DefaultConfig()
	for in, want := range map[string]string{
		"https://TC.example:443/api/": "https://tc.example/api", "https://api.threatconnect.com": "https://api.threatconnect.com", "": "",
	} {
		if c.URL = in; c.Destination() != want {
			t.Errorf("%s: %s", in, c.Destination())
		}
	}
	c.Owners = []string{"A"}
	if p := c.Threshold(); !p.Passes(verdict.Verdict{Owner: "a", Rating: 3, Confidence: 50}) || p.Passes(verdict.Verdict{Owner: "a", Rating: 2.9, Confidence: 50}) {
		t.Errorf("%+v", p)
	}
}
