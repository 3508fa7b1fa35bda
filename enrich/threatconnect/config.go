package threatconnect

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
	"capagent/internal/config"
	"capagent/internal/httpx"
	"capagent/internal/lazy"
	"capagent/internal/secret"
)

// Config is the table [threatconnect]. Without a URL there is no ThreatConnect.
type Config struct {
	URL              string          `toml:"url"`         // of the API, without its version: https://HOST/api
	APIVersion       int             `toml:"api_version"` // 3 or 2
	AccessID         string          `toml:"access_id"`
	SecretKey        secret.Secret   `toml:"secret_key"`
	SecretKeyFile    string          `toml:"secret_key_file"`
	SecretKeyCommand string          `toml:"secret_key_command"`
	Token            secret.Secret   `toml:"token"` // instead of access_id and secret_key
	TokenFile        string          `toml:"token_file"`
	TokenCommand     string          `toml:"token_command"`
	Owners           []string        `toml:"owners"`           // only what these say; none: all that the account may read
	MinRating        float64         `toml:"min_rating"`       // from which an indicator is a finding, 0 to 5
	MinConfidence    int             `toml:"min_confidence"`   // likewise, 0 to 100
	Groups           bool            `toml:"groups"`           // ask for adversaries, campaigns, malware
	Types            []string        `toml:"types"`            // "ja3=NAME": custom types of this ThreatConnect
	Exclude          []string        `toml:"exclude"`          // values, or files of values, that are never looked up
	TopSites         []string        `toml:"top_sites"`        // files of the most visited names, which are not looked up
	TopN             int             `toml:"top_n"`            // how many of each file
	MaxIndicators    int             `toml:"max_indicators"`   // looked up per capture
	TTL              config.Duration `toml:"ttl"`              // how long a verdict is true
	NegativeTTL      config.Duration `toml:"negative_ttl"`     // how long "unknown" is
	Rate             float64         `toml:"rate"`             // requests per second
	LargeBatches     bool            `toml:"large_batches"`    // hundreds of indicators per request; not every server takes it
	ReportSightings  bool            `toml:"report_sightings"` // write observations and incidents back
	Timeout          config.Duration `toml:"timeout"`          // without a byte in either direction
	AllowHTTP        bool            `toml:"allow_http"`
	CAFile           string          `toml:"ca_file"`
	Pins             []string        `toml:"pins"` // "sha256/BASE64"

	// Connecting is told of each connection, for captures to leave it out.
	Connecting httpx.Connecting `toml:"-"`
}

// Limits of a configuration.
const (
	maxToken      = 4096 // bytes
	maxOwners     = 50
	maxOwner      = 100 // bytes
	maxTypes      = 20
	maxIndicators = 100_000
	maxTopN       = 5_000_000
	maxRate       = 100
	minTimeout    = time.Second
)

// DefaultConfig returns the values that apply where a configuration is silent.
func DefaultConfig() Config {
	return Config{
		APIVersion:    3,
		MinRating:     3,
		MinConfidence: 50,
		TopN:          1000,
		MaxIndicators: 1000,
		TTL:           config.Duration(24 * time.Hour),
		NegativeTTL:   config.Duration(6 * time.Hour),
		Rate:          5,
		Timeout:       config.Duration(30 * time.Second),
	}
}

// Threshold is which verdicts make a finding.
func (c *Config) Threshold() verdict.Threshold {
	return verdict.Threshold{MinRating: c.MinRating, MinConfidence: c.MinConfidence, Owners: c.Owners}
}

// Validate returns what is wrong with the values that are set, each with its key
// ("threatconnect.url"). No text repeats a value. References in secrets must be
// resolved before.
func (c *Config) Validate() []*config.Error {
	var all []*config.Error
	check := func(key string, err error) {
		if err != nil {
			all = append(all, &config.Error{Key: "threatconnect." + key, Err: err})
		}
	}
	if c.URL != "" {
		_, err := parseURL(c.URL, c.AllowHTTP)
		check("url", err)
	}
	if c.APIVersion != 2 && c.APIVersion != 3 {
		check("api_version", errors.New("expected 3 or 2"))
	}
	if c.AccessID != "" && !headerWord().MatchString(c.AccessID) {
		check("access_id", errors.New("expected an access ID: no blanks, no colon"))
	}
	if t := c.Token.Reveal(); t != "" && (len(t) > maxToken || !tokenWord().MatchString(t)) {
		check("token", errors.New("expected an API token: printable ASCII without blanks"))
	}
	if !c.Token.IsZero() && (c.AccessID != "" || !c.SecretKey.IsZero()) {
		check("token", errors.New("set together with access_id or secret_key; give one of the two ways"))
	}
	check("owners", checkOwners(c.Owners))
	_, err := parseTypes(c.Types)
	check("types", err)
	for _, e := range c.Exclude {
		if strings.TrimSpace(e) == "" {
			check("exclude", errors.New("expected values or files, found nothing"))
		}
	}
	c.checkNumbers(check)
	for _, pin := range c.Pins {
		_, err := httpx.ParsePin(pin)
		check("pins", err)
	}
	return all
}

func (c *Config) checkNumbers(check func(string, error)) {
	within := func(key string, ok bool, expected string) {
		if !ok {
			check(key, errors.New("expected "+expected))
		}
	}
	within("min_rating", c.MinRating >= 0 && c.MinRating <= 5, "0 to 5")
	within("min_confidence", c.MinConfidence >= 0 && c.MinConfidence <= 100, "0 to 100")
	within("top_n", c.TopN >= 1 && c.TopN <= maxTopN, fmt.Sprintf("1 to %d", maxTopN))
	within("max_indicators", c.MaxIndicators >= 1 && c.MaxIndicators <= maxIndicators, fmt.Sprintf("1 to %d", maxIndicators))
	within("ttl", c.TTL.Std() >= time.Minute, "at least 1m")
	within("negative_ttl", c.NegativeTTL.Std() >= time.Minute, "at least 1m")
	within("rate", c.Rate >= 0.01 && c.Rate <= maxRate, fmt.Sprintf("0.01 to %d", maxRate))
	within("timeout", c.Timeout.Std() >= minTimeout, "at least 1s")
}

// Missing returns the keys without which nothing can be looked up. Where the
// address is among them, ThreatConnect is not configured.
func (c *Config) Missing() []*config.Error {
	var all []*config.Error
	missing := func(key, text string) {
		all = append(all, &config.Error{Key: "threatconnect." + key, Err: errors.New("not set; expected " + text)})
	}
	if c.URL == "" {
		missing("url", `the address of your ThreatConnect's API, such as "https://app.threatconnect.com/api"`)
	}
	switch {
	case !c.Token.IsZero():
	case c.AccessID == "" && c.SecretKey.IsZero():
		missing("access_id", "the access ID and secret_key of an API user, or its token")
	case c.AccessID == "":
		missing("access_id", "the access ID that belongs to secret_key")
	case c.SecretKey.IsZero():
		missing("secret_key", "the secret key that belongs to access_id")
	}
	return all
}

// Destination is the canonical base URL, without a final slash, or "" when URL is
// unusable.
func (c *Config) Destination() string {
	u, err := parseURL(c.URL, true)
	if err != nil {
		return ""
	}
	return u.origin() + u.path
}

var (
	headerWord = lazy.Regexp(`^[!-9;-~]{1,200}$`)
	tokenWord  = lazy.Regexp(`^[!-~]+$`)
	basePath   = lazy.Regexp(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$`)
	withAPI    = lazy.Regexp(`/v[0-9]$`)
)

// base is the address of an API.
type base struct{ scheme, host, path string }

func (b base) origin() string { return b.scheme + "://" + b.host }

func parseURL(text string, allowHTTP bool) (base, error) {
	const example = `expected a full URL such as "https://app.threatconnect.com/api"`
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Opaque != "" || u.Hostname() == "" {
		return base{}, errors.New(example)
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	switch {
	case u.User != nil:
		return base{}, errors.New("expected no user name or password in the URL; they go into access_id and secret_key")
	case u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return base{}, errors.New("expected no query and no fragment")
	case withAPI().MatchString(path):
		return base{}, errors.New("expected the address without the API's version, which api_version says")
	case !basePath().MatchString(path):
		return base{}, errors.New("expected a path of plain words, normally /api")
	case strings.ContainsAny(u.Host, " \"<>\\^`{|}"):
		return base{}, errors.New("expected a host name")
	}
	host := strings.ToLower(u.Host)
	for scheme, port := range map[string]string{"https": ":443", "http": ":80"} {
		if u.Scheme == scheme {
			host = strings.TrimSuffix(host, port)
		}
	}
	if u.Scheme == "http" && !allowHTTP && !local(u.Hostname()) {
		return base{}, errors.New("expected https: plain http would show keys and indicators on the network (allow_http = true permits it)")
	}
	return base{u.Scheme, host, path}, nil
}

// local says whether a name is this machine; httpx looks again at the address that
// it really connects to.
func local(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

func checkOwners(owners []string) error {
	if len(owners) > maxOwners {
		return fmt.Errorf("expected at most %d owners", maxOwners)
	}
	bytes := 0
	for i, o := range owners {
		if strings.TrimSpace(o) != o || o == "" || len(o) > maxOwner || line(o, maxOwner) != o {
			return fmt.Errorf("owner %d: expected the name of an owner, without blanks around it", i+1)
		}
		bytes += len(escape(nil, quoted(o), inQuery)) + 1
	}
	if bytes > maxQuery/2 {
		return errors.New("the names are too long together: they would fill every query")
	}
	return nil
}

// parseTypes reads which of our types ThreatConnect has under which name, beside
// its own ones.
func parseTypes(list []string) (map[indicator.Type]string, error) {
	if len(list) > maxTypes {
		return nil, fmt.Errorf("expected at most %d types", maxTypes)
	}
	types := map[indicator.Type]string{}
	for i, text := range list {
		ours, theirs, ok := strings.Cut(text, "=")
		ours, theirs = strings.TrimSpace(ours), strings.TrimSpace(theirs)
		t, known := indicator.ParseType(ours)
		switch {
		case !ok || theirs == "" || len(theirs) > maxOwner || line(theirs, maxOwner) != theirs:
			return nil, fmt.Errorf(`type %d: expected "ja3=NAME", with the name of a type in ThreatConnect`, i+1)
		case !known || builtIn[t] != "":
			return nil, fmt.Errorf("type %d: expected certificate, ja3, ja4 or local_host before the equals sign", i+1)
		case strings.EqualFold(theirs, typeFile) && t != indicator.Certificate && t != indicator.JA3:
			return nil, fmt.Errorf("type %d: a file is known by MD5, SHA-1 or SHA-256 only", i+1)
		}
		types[t] = theirs
	}
	return types, nil
}
