package paths

import (
	"strings"

	"golang.org/x/sys/windows"
)

// isSystem reports whether the process runs as one of the accounts that
// services have: the three built-in ones, or a virtual account (NT SERVICE\name,
// S-1-5-80-…). An elevated administrator is still a user.
func isSystem() bool {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return false
	}
	for _, account := range []windows.WELL_KNOWN_SID_TYPE{windows.WinLocalSystemSid, windows.WinLocalServiceSid, windows.WinNetworkServiceSid} {
		if user.User.Sid.IsWellKnown(account) {
			return true
		}
	}
	return strings.HasPrefix(user.User.Sid.String(), "S-1-5-80-")
}
