package filtertest

// The link types that filters are judged on, as LINKTYPE_ numbers.
const (
	LinkNull     = 0
	LinkEthernet = 1
	LinkRaw      = 101
	Link80211    = 105
	LinkLoop     = 108
	LinkSLL      = 113
	LinkRadiotap = 127
	LinkSLL2     = 276
)

// Links are all of them, the one that matters most first.
var Links = []int{LinkEthernet, LinkSLL, LinkSLL2, LinkRaw, LinkNull, LinkLoop, Link80211, LinkRadiotap}

var linkNames = map[int]string{
	LinkNull: "NULL", LinkEthernet: "EN10MB", LinkRaw: "RAW", Link80211: "IEEE802_11", LinkLoop: "LOOP",
	LinkSLL: "LINUX_SLL", LinkRadiotap: "IEEE802_11_RADIO", LinkSLL2: "LINUX_SLL2",
}

// LinkName is libpcap's name of a link type.
func LinkName(linkType int) string { return linkNames[linkType] }
