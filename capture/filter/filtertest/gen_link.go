package filtertest

var addrWords = []string{"addr1", "addr2", "addr3", "addr4", "address1", "address4", "ra", "ta"}

func (g *Gen) link80211OrEther() string {
	mac := func() string { return g.mac() }
	if g.link != Link80211 && g.link != LinkRadiotap && !chance(g.r, 5) {
		return one(g.r, "ether ", "ether ", "link ", "fddi ", "tr ", "wlan ") + one(g.r, "host ", "src ", "dst ", "src or dst ",
			"src and dst ", "src host ", "dst host ") + g.ids(mac)
	}
	switch g.r.IntN(10) {
	case 0, 1, 2:
		return one(g.r, "wlan ", "wlan ", "ether ", "link ") + one(g.r, "host ", "src ", "dst ", "src or dst ", "src and dst ",
			"src host ") + g.ids(mac)
	case 3, 4:
		return one(g.r, "wlan ", "wlan ", "") + one(g.r, addrWords...) + one(g.r, " ", " host ") + g.ids(mac)
	case 5:
		return one(g.r, "", "wlan ", "wlan ") + one(g.r, "dir", "direction") + " " +
			one(g.r, "nods", "tods", "fromds", "dstods", "0", "1", "2", "3", "4")
	case 6:
		return one(g.r, "", "wlan ") + "type " + one(g.r, "mgt", "ctl", "data", "management", "control", "0", "4", "8", "12", "1")
	case 7:
		return one(g.r, "", "wlan ") + "subtype " + one(g.r, subtypes...)
	default:
		kind := g.r.IntN(3)
		return one(g.r, "", "wlan ") + "type " + []string{"mgt", "ctl", "data"}[kind] + " subtype " +
			one(g.r, append([]string{"0x80", "0x10", "0xf0"}, kindSubtypes[kind]...)...)
	}
}

var kindSubtypes = [3][]string{
	{
		"assoc-req", "assoc-resp", "assocreq", "reassoc-req", "reassoc-resp", "probe-req", "proberesp", "beacon",
		"atim", "disassoc", "disassociation", "auth", "authentication", "deauth",
	},
	{"ps-poll", "rts", "cts", "ack", "cf-end", "cf-end-ack"},
	{
		"data", "data-cf-ack", "data-cf-poll", "data-cf-ack-poll", "null", "cf-ack", "cf-poll", "cf-ack-poll",
		"qos-data", "qos-data-cf-ack", "qos-data-cf-poll", "qos-data-cf-ack-poll", "qos", "qos-cf-poll",
		"qos-cf-ack-poll",
	},
}

var subtypes = append(append(append([]string{}, kindSubtypes[0]...), kindSubtypes[1]...), kindSubtypes[2]...)
