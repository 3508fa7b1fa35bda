package bucket

import (
	"context"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/config"
)

// StartsProgram says whether this machine's AWS configuration has credentials from a
// program (credential_process).
func StartsProgram(ctx context.Context) bool {
	conf, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return false // New tells it
	}
	for _, source := range conf.ConfigSources {
		shared, ok := source.(config.SharedConfig)
		if !ok {
			continue
		}
		for p := &shared; p != nil; p = p.Source {
			if p.CredentialProcess != "" {
				return true
			}
		}
	}
	return false
}

// Caches are the directories in which the SDK renews what somebody logged in for.
func Caches() []string {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil
	}
	return []string{filepath.Join(home, ".aws", "sso", "cache"), filepath.Join(home, ".aws", "login", "cache")}
}
