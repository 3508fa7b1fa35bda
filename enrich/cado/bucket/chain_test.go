package bucket_test

import (
	"os"
	"path/filepath"
	"testing"

	"capagent/enrich/cado/bucket"
)

func TestAProfileWhoseCredentialsAProgramPrints(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	t.Setenv("AWS_CONFIG_FILE", file)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "credentials"))
	t.Setenv("AWS_PROFILE", "mine")
	for text, want := range map[string]bool{
		"": false,
		"[profile mine]\nregion = eu-central-1\n":                                                                          false,
		"[profile mine]\ncredential_process = /bin/program\n":                                                              true,
		"[profile other]\ncredential_process = /bin/program\n[profile mine]\nregion = x\n":                                 false,
		"[profile a]\ncredential_process = /bin/p\n[profile mine]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = a\n": true,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := bucket.StartsProgram(t.Context()); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
