package main

import (
	"os"
	"os/exec"
	"strconv"
)

// sign signs a program or an installer for Windows in place with osslsigncode, where a
// certificate is given:
//
//	CAPAGENT_SIGN_CERT           a PKCS#12 file, or PEM certificates with CAPAGENT_SIGN_KEY
//	CAPAGENT_SIGN_KEY            the key to PEM certificates
//	CAPAGENT_SIGN_PASSWORD_FILE  what opens either
//	CAPAGENT_SIGN_TIMESTAMP      the address of a timestamp server (RFC 3161)
//
// Without a timestamp server the signature has the commit's time, and is the same each
// time where the key is RSA.
func (b *builder) sign(name string) error {
	args := signArgs(os.Getenv, b.made.Unix())
	if args == nil {
		return nil
	}
	signed := name + ".signed"
	if err := b.do(exec.CommandContext(b.ctx, "osslsigncode", append(args, "-in", name, "-out", signed)...)); err != nil {
		return err
	}
	if err := os.Chmod(signed, 0o755); err != nil {
		return err
	}
	return os.Rename(signed, name)
}

func signArgs(env func(string) string, made int64) []string {
	cert, key := env("CAPAGENT_SIGN_CERT"), env("CAPAGENT_SIGN_KEY")
	if cert == "" {
		return nil
	}
	args := []string{"sign", "-h", "sha256", "-n", "capagent"}
	if key == "" {
		args = append(args, "-pkcs12", cert)
	} else {
		args = append(args, "-certs", cert, "-key", key)
	}
	if file := env("CAPAGENT_SIGN_PASSWORD_FILE"); file != "" {
		args = append(args, "-readpass", file)
	}
	if url := env("CAPAGENT_SIGN_TIMESTAMP"); url != "" {
		return append(args, "-ts", url)
	}
	return append(args, "-time", strconv.FormatInt(made, 10))
}
