package paths

import (
	"os"
	"os/user"
	"runtime"
)

// Native is the environment of this process.
func Native() Env {
	env := Env{OS: runtime.GOOS, System: isSystem(), Getenv: os.Getenv, Stat: os.Stat}
	if u, err := user.Current(); err == nil {
		env.Home = u.HomeDir
	}
	return env
}
