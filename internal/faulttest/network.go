//go:build linux

package faulttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Network disturbs the connections to one port on the loopback of the namespace
// that Main made. Nobody else sees it.
type Network struct{ Port string }

// CanDisturb says whether there is such a namespace and the tools, with the reason.
func CanDisturb() error {
	if os.Getenv(insideVar) == "" {
		return errors.New("only root has a network namespace")
	}
	for _, tool := range []string{"nft", "tc", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			return err
		}
	}
	return nil
}

// Clear undoes everything and counts attempts from 0.
func (n Network) Clear() error {
	_ = command("tc", "qdisc", "del", "dev", "lo", "root") // there may be none
	_ = command("nft", "delete", "table", "inet", "fault")
	return n.rules("")
}

// rules puts rules behind the one that counts attempts. Each attempt has a
// source port of its own, however often its first packet is sent.
func (n Network) rules(text string) error {
	return command("nft", fmt.Sprintf(`add table inet fault
add set inet fault attempts { type inet_service; flags dynamic; size 65535; }
add chain inet fault output { type filter hook output priority 0; }
flush chain inet fault output
add rule inet fault output tcp dport %s tcp flags & (syn | ack) == syn add @attempts { tcp sport }
%s`, n.Port, strings.ReplaceAll(text, "PORT", n.Port)))
}

// Lose drops so many percent of the packets in both directions.
func (n Network) Lose(percent int) error {
	return n.rules(fmt.Sprintf(`add rule inet fault output tcp dport PORT numgen random mod 100 < %d drop
add rule inet fault output tcp sport PORT numgen random mod 100 < %d drop`, percent, percent))
}

// Reset ends a connection on so many of a thousand packets to the server.
func (n Network) Reset(perMille int) error {
	return n.rules(fmt.Sprintf(`add rule inet fault output tcp dport PORT numgen random mod 1000 < %d reject with tcp reset`, perMille))
}

// Swallow drops everything.
func (n Network) Swallow() error {
	return n.rules("add rule inet fault output tcp dport PORT drop\nadd rule inet fault output tcp sport PORT drop")
}

// Slow lets so much through, as tc says it: "1mbit".
func (n Network) Slow(rate string) error {
	return command("tc", "qdisc", "replace", "dev", "lo", "root", "tbf", "rate", rate, "burst", "32kbit", "latency", "400ms")
}

// Attempts counts the connections that were tried since Clear.
func (n Network) Attempts() (int, error) {
	out, err := exec.Command("nft", "list", "set", "inet", "fault", "attempts").Output() //nolint:noctx // short
	if err != nil {
		return 0, fmt.Errorf("nft: %w\n%s", err, stderrOf(err))
	}
	_, list, ok := strings.Cut(string(out), "elements = {")
	if !ok {
		return 0, nil
	}
	return strings.Count(list, ",") + 1, nil
}
