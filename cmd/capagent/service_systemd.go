package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"unicode"
)

// serviceUser is whom the service runs as: the same as the package's.
const serviceUser = "capagent"

// Where packages put units, and where whoever runs the machine does.
var (
	packagedUnits = []string{"/usr/lib/systemd/system", "/lib/systemd/system"}
	ownUnits      = []string{"/etc/systemd/system"}
)

// installedUnit returns the path of the service's unit in one of dirs, "" when none has it.
func installedUnit(dirs []string) string {
	for _, dir := range dirs {
		path := filepath.Join(dir, serviceName+".service")
		if _, err := os.Lstat(path); err == nil {
			return path
		}
	}
	return ""
}

func userExists(name string) bool {
	_, err := user.Lookup(name)
	return err == nil
}

// unitText is the unit for a program that no package brought: what the package's says
// of rights and bounds. It holds nothing that a template engine would look at.
func unitText(program string, args, writes []string) (string, error) {
	command, err := unitWord(program)
	if err != nil {
		return "", err
	}
	run := []string{command}
	for _, arg := range args {
		word, err := unitWord(arg)
		if err != nil {
			return "", err
		}
		run = append(run, word)
	}
	reload := append(append([]string{}, run[:len(run)-1]...), "reload") // the same configuration
	home, paths := "yes", ""
	for _, dir := range writes {
		word, err := unitWord(dir)
		if err != nil {
			return "", err
		}
		// One that is not there yet keeps the unit from starting no more than the agent.
		if quoted, ok := strings.CutPrefix(word, `"`); ok {
			word = `"-` + quoted
		} else {
			word = "-" + word
		}
		paths += "ReadWritePaths=" + word + "\n"
		if strings.HasPrefix(dir, "/home/") || strings.HasPrefix(dir, "/root/") {
			home = "read-only"
		}
	}
	return fmt.Sprintf(unitForm, strings.Join(run, " "), strings.Join(reload, " "), serviceUser, home, paths), nil
}

var errUnitWord = errors.New("the path can't stand in a unit: put the program or the file where its name is plain")

// unitWord writes a word as systemd reads it back (systemd.service, "Command lines").
func unitWord(s string) (string, error) {
	if s == "" || strings.Contains(s, "{{") || strings.IndexFunc(s, unicode.IsControl) >= 0 {
		return "", fmt.Errorf("%q: %w", s, errUnitWord)
	}
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$").Replace(s)
	if strings.ContainsAny(s, " '\";\\") {
		return `"` + s + `"`, nil
	}
	return s, nil
}

// unitForm is packaging/systemd/capagent.service with the verbs of unitText; a test
// compares them.
const unitForm = `[Unit]
Description=Packet captures to CloudShark
# Interfaces and servers that are not there yet are waited for by the agent itself.
After=network.target nss-lookup.target time-sync.target
# A sensor that gave up would capture nothing for months.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart=%s
ExecReload=%s
# A missing right and a wrong configuration get no better by trying again. 2, a wrong
# command line, is not among them: Go programs that crash, also by the watchdog, end so.
Restart=on-failure
RestartPreventExitStatus=77 78
RestartSec=10s
WatchdogSec=60s
# A ledger of an older version is brought up to date before the agent is ready.
TimeoutStartSec=15min
# Longer than capagent run --grace, so that the last file is sealed and recorded.
TimeoutStopSec=60s
KillMode=mixed

User=%[3]s
Group=%[3]s
StateDirectory=capagent
StateDirectoryMode=0700
CacheDirectory=capagent
CacheDirectoryMode=0700
ConfigurationDirectory=capagent
ConfigurationDirectoryMode=0750
# It holds the control socket, which the group capagent may use.
RuntimeDirectory=capagent
RuntimeDirectoryMode=0755
UMask=0077

# Secrets: a file that root alone can read becomes @{systemd:cloudshark-token} in
# agent.toml. Use a drop-in (systemctl edit capagent), not this file.
#LoadCredential=cloudshark-token:/etc/capagent/cloudshark-token

# The one right: to open packet sockets.
AmbientCapabilities=CAP_NET_RAW
CapabilityBoundingSet=CAP_NET_RAW
NoNewPrivileges=yes
SecureBits=noroot-locked

ProtectSystem=strict
ProtectHome=%[4]s
%[5]sPrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
PrivateMounts=yes
RemoveIPC=yes
KeyringMode=private

RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
# The agent confines itself further once it is started. @sandbox, which is these, is not
# known to systemd before 254.
SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp
SystemCallFilter=~@privileged @resources @mount @swap @reboot @debug @obsolete @cpu-emulation
SystemCallErrorNumber=EPERM

# Each watched folder takes two watches and each large one a few files.
LimitNOFILE=65536
LimitCORE=0
TasksMax=512

[Install]
WantedBy=multi-user.target
`
