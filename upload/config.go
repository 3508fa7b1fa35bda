package upload

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"

	"capagent/internal/config"
	"capagent/internal/httpx"
	"capagent/internal/lazy"
	"capagent/internal/secret"
)

// Config is the table [cloudshark].
type Config struct {
	URL          string          `toml:"url"` // full URL with protocol, of a public or private CloudShark
	Token        secret.Secret   `toml:"token"`
	TokenFile    string          `toml:"token_file"`
	TokenCommand string          `toml:"token_command"`
	Tags         []string        `toml:"tags"`        // templates, see Placeholders
	Comments     string          `toml:"comments"`    // template, the first line of every session's comments
	Name         string          `toml:"name"`        // template of a session's file name, without extension
	Method       string          `toml:"method"`      // "put" or "post"
	Concurrency  int             `toml:"concurrency"` // uploads at a time
	Bandwidth    config.Rate     `toml:"bandwidth"`   // of all uploads together, 0 for no limit
	MaxSize      config.Size     `toml:"max_size"`    // larger captures are split, 0 for no limit
	MaxPackets   int64           `toml:"max_packets"` // captures of more packets are split, 0 for no limit
	Stream       bool            `toml:"stream"`      // live captures go out while they are written
	Annotate     bool            `toml:"annotate"`    // findings are put onto the packets of the session
	Timeout      config.Duration `toml:"timeout"`     // without a byte in either direction
	AllowHTTP    bool            `toml:"allow_http"`
	CAFile       string          `toml:"ca_file"`
	Pins         []string        `toml:"pins"` // "sha256/BASE64"

	// Connecting is told of each connection, for captures to leave it out.
	Connecting httpx.Connecting `toml:"-"`
}

// The values of Config.Method and ledger.Capture.Method.
const (
	MethodPut  = "put"
	MethodPost = "post"
)

// Limits of CloudShark (contracts/cloudshark.md 1.3) and of ours.
const (
	MaxTags        = 30
	MaxTag         = 100     // bytes
	maxComments    = 2 << 10 // bytes
	maxSummary     = 700     // bytes of it for what the flows were
	maxThreats     = 1000    // bytes of it for findings
	maxMachines    = 600     // bytes of it for machines
	maxTemplate    = 500     // bytes
	maxConcurrency = 64
	minBandwidth   = 1 << 10
	minTimeout     = time.Second
)

// DefaultConfig returns the values that apply where a configuration is silent.
func DefaultConfig() Config {
	return Config{
		Name:        "{host}-{source}-{first}-{sha}",
		Method:      MethodPut,
		Concurrency: 2,
		Annotate:    true,
		Timeout:     config.Duration(httpx.DefaultIdleTimeout),
	}
}

// Validate returns what is wrong with the values that are set, each with its
// key ("cloudshark.url"). No text repeats a value: a URL may hold a token by
// mistake. References in Token must be resolved before.
func (c *Config) Validate() []*config.Error {
	var all []*config.Error
	check := func(key string, err error) {
		if err != nil {
			all = append(all, &config.Error{Key: "cloudshark." + key, Err: err})
		}
	}
	if c.URL != "" {
		check("url", checkURL(c.URL, c.AllowHTTP))
	}
	if token := c.Token.Reveal(); token != "" && !tokenPattern().MatchString(token) {
		check("token", errors.New("expected 32 hexadecimal characters"))
	}
	check("tags", CheckTags(c.Tags))
	check("comments", checkTemplate(c.Comments, tagPlaceholders))
	check("name", checkName(c.Name))
	if c.Method != MethodPut && c.Method != MethodPost {
		check("method", fmt.Errorf("expected %q or %q", MethodPut, MethodPost))
	}
	if c.Concurrency < 1 || c.Concurrency > maxConcurrency {
		check("concurrency", fmt.Errorf("expected 1 to %d", maxConcurrency))
	}
	if b := c.Bandwidth.BytesPerSecond(); b != 0 && b < minBandwidth {
		check("bandwidth", errors.New("expected at least 1KiB/s, or 0 for no limit"))
	}
	if c.MaxSize < 0 {
		check("max_size", errors.New("expected 0 or more"))
	}
	if c.MaxPackets < 0 {
		check("max_packets", errors.New("expected 0 or more"))
	}
	if c.Timeout.Std() < minTimeout {
		check("timeout", errors.New("expected at least 1s"))
	}
	for _, pin := range c.Pins {
		_, err := httpx.ParsePin(pin)
		check("pins", err)
	}
	return all
}

// Missing returns the keys without which nothing can be uploaded.
func (c *Config) Missing() []*config.Error {
	var all []*config.Error
	if c.URL == "" {
		all = append(all, &config.Error{Key: "cloudshark.url", Err: errors.New(`not set; expected the address of your CloudShark, such as "https://www.cloudshark.org"`)})
	}
	if c.Token.IsZero() {
		all = append(all, &config.Error{Key: "cloudshark.token", Err: errors.New("not set; expected an API token of 32 hexadecimal characters")})
	}
	return all
}

// Destination is the canonical base URL, without a final slash: what links begin
// with and what ledger.Capture.Destination holds. It is "" when URL is unusable.
func (c *Config) Destination() string {
	u, err := parseURL(c.URL)
	if err != nil {
		return ""
	}
	host := strings.ToLower(u.Host)
	for scheme, port := range map[string]string{"https": ":443", "http": ":80"} {
		if u.Scheme == scheme {
			host = strings.TrimSuffix(host, port)
		}
	}
	return u.Scheme + "://" + host
}

var tokenPattern = lazy.Regexp(`^[0-9a-fA-F]{32}$`)

// parseURL takes what contracts/cloudshark.md 0 and 1.1 call the URI: a full URL
// of a server's root.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New(`expected a full URL such as "https://www.cloudshark.org"`)
	case u.Scheme != "https" && u.Scheme != "http", u.Opaque != "", u.Hostname() == "":
		return nil, errors.New(`expected a full URL with its protocol, such as "https://www.cloudshark.org"`)
	case u.User != nil:
		return nil, errors.New("expected no user name or password in the URL; CloudShark needs the token only")
	case strings.HasPrefix(u.Path, "/api"):
		return nil, errors.New("expected the server's address alone; the path is added by the agent, and the token goes into cloudshark.token")
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return nil, errors.New("expected the server's address alone, without a path, query or fragment")
	case strings.ContainsAny(u.Host, " \"<>\\^`{|}"):
		return nil, errors.New("expected a host name")
	}
	return u, nil
}

func checkURL(text string, allowHTTP bool) error {
	u, err := parseURL(text)
	if err != nil || u.Scheme == "https" || allowHTTP || strings.EqualFold(u.Hostname(), "localhost") {
		return err
	}
	// The client looks again at the address that it really connects to.
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.Unmap().IsLoopback() {
		return nil
	}
	return errors.New("expected https: plain http would show token and captures on the network (allow_http = true permits it)")
}

// CheckTags says what is wrong with templates of tags that go together.
func CheckTags(tags []string) error {
	if len(tags) > MaxTags {
		return fmt.Errorf("expected at most %d tags", MaxTags)
	}
	for i, tag := range tags {
		err := checkTemplate(tag, tagPlaceholders)
		switch {
		case err != nil:
		case strings.TrimSpace(tag) == "":
			err = errors.New("expected a tag, found nothing")
		case strings.Contains(tag, ","):
			err = errors.New("expected no comma: CloudShark takes it as the end of the tag")
		}
		if err != nil {
			return fmt.Errorf("tag %d: %w", i+1, err)
		}
	}
	return nil
}

func checkName(template string) error {
	if err := checkTemplate(template, namePlaceholders); err != nil {
		return err
	}
	if !strings.Contains(template, "{sha}") {
		return errors.New("expected {sha} in it: by it a lost upload is found again")
	}
	if path.Base(template) != template || strings.Contains(template, `\`) {
		return errors.New("expected a file name, without a directory")
	}
	return nil
}
