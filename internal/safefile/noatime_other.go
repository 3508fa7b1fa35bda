//go:build unix && !linux

package safefile

const noatime = 0
