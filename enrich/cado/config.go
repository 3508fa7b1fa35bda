package cado

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"capagent/internal/config"
	"capagent/internal/httpx"
	"capagent/internal/lazy"
	"capagent/internal/secret"
)

// Config is the table [cado]. Without a URL there is no Cado.
type Config struct {
	URL           string        `toml:"url"`         // of the platform: https://HOST, without /api/v3
	APIVersion    int           `toml:"api_version"` // 3 or 2
	APIKey        secret.Secret `toml:"api_key"`
	APIKeyFile    string        `toml:"api_key_file"`
	APIKeyCommand string        `toml:"api_key_command"`
	Project       string        `toml:"project"` // template: {agent}, {case}, {date}, {day}, {case|agent}
	Import        string        `toml:"import"`  // never, flagged or all
	DryRun        bool          `toml:"dry_run"` // say what would be imported, and import nothing

	Method                 string        `toml:"method"` // s3, presigned or url; "" is s3 with a bucket, else presigned
	Bucket                 string        `toml:"bucket"`
	Region                 string        `toml:"region"`
	Endpoint               string        `toml:"endpoint"` // of a store that is not Amazon's
	PathStyle              bool          `toml:"path_style"`
	Prefix                 string        `toml:"prefix"`        // template of what keys begin with
	AccessKeyID            string        `toml:"access_key_id"` // none: the SDK's chain (environment, profile, role)
	SecretAccessKey        secret.Secret `toml:"secret_access_key"`
	SecretAccessKeyFile    string        `toml:"secret_access_key_file"`
	SecretAccessKeyCommand string        `toml:"secret_access_key_command"`
	CloudID                string        `toml:"cloud_id"` // the platform's name for the cloud account

	Poll      config.Duration `toml:"poll"`    // between two questions how far a pipeline is
	Timeout   config.Duration `toml:"timeout"` // without a byte in either direction
	AllowHTTP bool            `toml:"allow_http"`
	CAFile    string          `toml:"ca_file"`
	Pins      []string        `toml:"pins"` // "sha256/BASE64"

	// Connecting is told of each connection, for captures to leave it out.
	Connecting httpx.Connecting `toml:"-"`

	impatient bool // tests: poll may be short
}

// Values of Import and Method.
const (
	Never   = "never"
	Flagged = "flagged"
	All     = "all"

	MethodS3        = "s3"
	MethodPresigned = "presigned"
	MethodURL       = "url"
)

// Limits of a configuration.
const (
	maxKey     = 4096 // bytes of an API key
	minPoll    = time.Second
	minTimeout = time.Second
)

// DefaultConfig returns the values that apply where a configuration is silent.
func DefaultConfig() Config {
	return Config{
		APIVersion: 3,
		Project:    "{case|agent}-{date}",
		Import:     Never,
		Prefix:     "capagent/{agent}/{date}/",
		Poll:       config.Duration(time.Minute),
		Timeout:    config.Duration(time.Minute),
	}
}

// How returns the method that is in force.
func (c *Config) How() string {
	switch {
	case c.Method != "":
		return c.Method
	case c.Bucket == "" && c.APIVersion == 3:
		return MethodPresigned
	default:
		return MethodS3
	}
}

// Chain says whether the credentials of the store are those of this machine's AWS
// configuration.
func (c *Config) Chain() bool {
	return c.URL != "" && c.How() == MethodS3 && c.AccessKeyID == ""
}

// Validate returns what is wrong with the values that are set, each with its key
// ("cado.url"). No text repeats a value. References in secrets must be resolved
// before.
func (c *Config) Validate() []*config.Error {
	var all []*config.Error
	check := func(key string, err error) {
		if err != nil {
			all = append(all, &config.Error{Key: "cado." + key, Err: err})
		}
	}
	expect := func(key string, ok bool, expected string) {
		if !ok {
			check(key, errors.New("expected "+expected))
		}
	}
	if c.URL != "" {
		_, err := parseURL(c.URL, c.AllowHTTP)
		check("url", err)
	}
	expect("api_version", c.APIVersion == 2 || c.APIVersion == 3, "3 or 2")
	if k := c.APIKey.Reveal(); k != "" {
		expect("api_key", len(k) <= maxKey && printable().MatchString(k), "an API key: printable ASCII without blanks")
	}
	_, err := parseTemplate(c.Project)
	check("project", err)
	expect("project", c.Project != "", "a template such as \"{case|agent}-{date}\"")
	expect("import", c.Import == Never || c.Import == Flagged || c.Import == All, `"never", "flagged" or "all"`)
	c.checkStore(check, expect)
	expect("poll", c.Poll.Std() >= minPoll || c.impatient, "at least 1s")
	expect("timeout", c.Timeout.Std() >= minTimeout, "at least 1s")
	for _, pin := range c.Pins {
		_, err := httpx.ParsePin(pin)
		check("pins", err)
	}
	return all
}

// checkStore checks the keys that say how a capture gets to the platform.
func (c *Config) checkStore(check func(string, error), expect func(string, bool, string)) {
	switch c.Method {
	case "", MethodS3:
	case MethodPresigned, MethodURL:
		expect("method", c.APIVersion == 3, `"s3": the API v2 knows no other way`)
	default:
		expect("method", false, `"s3", "presigned" or "url"`)
	}
	expect("bucket", c.Bucket == "" || bucketName().MatchString(c.Bucket) && !strings.Contains(c.Bucket, ".."), "the name of a bucket: 3 to 63 small letters, digits, dots and hyphens")
	expect("region", c.Region == "" || plainWord().MatchString(c.Region), `a region such as "eu-west-1"`)
	if c.Endpoint != "" {
		b, err := parseURL(c.Endpoint, c.AllowHTTP)
		if err == nil && b.path != "" {
			err = errors.New("expected no path; the bucket goes into bucket")
		}
		check("endpoint", err)
	}
	t, err := parseTemplate(c.Prefix)
	check("prefix", err)
	if err == nil {
		check("prefix", t.checkKey())
	}
	expect("access_key_id", c.AccessKeyID == "" || accessKey().MatchString(c.AccessKeyID), "an access key ID: letters, digits and a few signs, without blanks")
	if k := c.SecretAccessKey.Reveal(); k != "" {
		expect("secret_access_key", len(k) <= maxKey && printable().MatchString(k), "a secret access key: printable ASCII without blanks")
	}
	expect("access_key_id", c.AccessKeyID != "" || c.SecretAccessKey.IsZero(), "the access key ID that belongs to secret_access_key")
	expect("secret_access_key", c.AccessKeyID == "" || !c.SecretAccessKey.IsZero(), "the secret that belongs to access_key_id")
	expect("cloud_id", c.CloudID == "" || len(c.CloudID) <= 200 && line(c.CloudID, 200) == c.CloudID, "the name of a cloud account, as the platform shows it")
}

// Missing returns the keys without which nothing can be done. Where the address is
// among them, Cado is not configured. A bucket is missed where captures are to be
// imported by one.
func (c *Config) Missing() []*config.Error {
	var all []*config.Error
	missing := func(key, text string) {
		all = append(all, &config.Error{Key: "cado." + key, Err: errors.New("not set; expected " + text)})
	}
	if c.URL == "" {
		missing("url", `the address of your platform, such as "https://cado.example.com"`)
	}
	if c.APIKey.IsZero() {
		missing("api_key", "the secret key from Settings, API of the platform")
	}
	if c.Import != Never && c.Import != "" && c.needsBucket() {
		missing("bucket", "the S3 bucket that the platform reads captures from")
	}
	return all
}

func (c *Config) needsBucket() bool { return c.Bucket == "" && c.How() != MethodPresigned }

// Destination is the canonical address of the platform, without a final slash, or
// "" when URL is unusable.
func (c *Config) Destination() string {
	b, err := parseURL(c.URL, true)
	if err != nil {
		return ""
	}
	return b.origin() + b.path
}

var (
	printable  = lazy.Regexp(`^[!-~]+$`)
	plainWord  = lazy.Regexp(`^[A-Za-z0-9-]{1,64}$`)
	accessKey  = lazy.Regexp(`^[A-Za-z0-9+=,.@_-]{1,128}$`)
	bucketName = lazy.Regexp(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	basePath   = lazy.Regexp(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$`)
	withAPI    = lazy.Regexp(`(^|/)api/v[0-9]+$`)
)

// base is the address of the platform.
type base struct{ scheme, host, path string }

func (b base) origin() string { return b.scheme + "://" + b.host }

func parseURL(text string, allowHTTP bool) (base, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Opaque != "" || u.Hostname() == "" {
		return base{}, errors.New(`expected a full URL such as "https://cado.example.com"`)
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	switch {
	case u.User != nil:
		return base{}, errors.New("expected no user name or password in the URL; keys have keys of their own")
	case u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return base{}, errors.New("expected no query and no fragment")
	case withAPI().MatchString(path):
		return base{}, errors.New("expected the address without /api and the API's version, which api_version says")
	case !basePath().MatchString(path):
		return base{}, errors.New("expected a path of plain words, normally none")
	case strings.ContainsAny(u.Host, " \"<>\\^`{|}"):
		return base{}, errors.New("expected a host name")
	}
	path = strings.TrimSuffix(path, "/api")
	host := strings.ToLower(u.Host)
	for scheme, port := range map[string]string{"https": ":443", "http": ":80"} {
		if u.Scheme == scheme {
			host = strings.TrimSuffix(host, port)
		}
	}
	if u.Scheme == "http" && !allowHTTP && !local(u.Hostname()) {
		return base{}, errors.New("expected https: plain http would show keys and captures on the network (allow_http = true permits it)")
	}
	return base{u.Scheme, host, path}, nil
}

// local says whether a name is this machine; httpx looks again at the address that
// it really connects to.
func local(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}
