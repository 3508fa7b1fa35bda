//go:build !(windows && amd64)

// Package npcap captures on Windows through Npcap. It is empty on other systems,
// and on Windows for arm64, for which google/gopacket/pcap does not build.
package npcap
