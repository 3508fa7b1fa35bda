package upload

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"capagent/internal/config"
)

func TestTheTableIsReadAsItIsDocumented(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.toml")
	text := `[cloudshark]
url = "https://cs.example"
token = "` + canary + `"
tags = ["a", "case:{case}"]
method = "post"
concurrency = 4
bandwidth = "100Mbit/s"
max_size = "512MiB"
max_packets = 100000
timeout = "90s"
allow_http = true
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var agent struct {
		CloudShark Config `toml:"cloudshark"`
	}
	agent.CloudShark = DefaultConfig()
	if _, err := config.Load(config.Options{Path: path}, &agent); err != nil {
		t.Fatal(err)
	}
	c := agent.CloudShark
	if c.URL != "https://cs.example" || c.Token.Reveal() != canary || !slices.Equal(c.Tags, []string{"a", "case:{case}"}) ||
		c.Method != MethodPost || c.Concurrency != 4 || c.Bandwidth.BytesPerSecond() != 12_500_000 || c.MaxSize.Bytes() != 512<<20 ||
		c.MaxPackets != 100_000 || c.Timeout.Std() != 90*time.Second || !c.AllowHTTP || c.Name != DefaultConfig().Name {
		t.Errorf("%+v", c)
	}
	if wrong := c.Validate(); len(wrong) > 0 {
		t.Errorf("%v", wrong)
	}
}
