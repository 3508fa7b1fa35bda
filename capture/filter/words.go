package filter

// keyword is what a reserved word stands for.
type keyword struct {
	kind kind
	val  uint32
	text string // the main spelling, where there are several
}

// keywords are the reserved words of the language.
var keywords = buildKeywords()

func buildKeywords() map[string]keyword {
	m := make(map[string]keyword, 256)
	for p, names := range protoNames {
		for _, n := range names {
			m[n] = keyword{kind: tProto, val: uint32(p)}
		}
	}
	for d, names := range dirNames {
		for _, n := range names {
			m[n] = keyword{kind: tDir, val: uint32(d)}
		}
	}
	for t, n := range addrTypeNames {
		if n != "" {
			m[n] = keyword{kind: tType, val: uint32(t)}
		}
	}
	for n, v := range namedNumbers {
		m[n] = keyword{kind: tNum, val: v}
	}
	for _, names := range otherWords {
		for _, n := range names {
			m[n] = keyword{kind: tWord, text: names[0]}
		}
	}
	m["not"] = keyword{kind: tOp, text: "!"}
	return m
}

// proto is a protocol as the language names it.
type proto uint8

const (
	pDefault proto = iota // none named
	pUndef                // there can't be one here
	pLink
	pIP
	pARP
	pRARP
	pSCTP
	pTCP
	pUDP
	pICMP
	pIGMP
	pIGRP
	pPIM
	pVRRP
	pCARP
	pATalk
	pAARP
	pDECnet
	pLAT
	pSCA
	pMOPRC
	pMOPDL
	pIPv6
	pICMPv6
	pAH
	pESP
	pISO
	pESIS
	pISIS
	pCLNP
	pSTP
	pIPX
	pNetBEUI
	pL1
	pL2
	pIIH
	pLSP
	pSNP
	pCSNP
	pPSNP
	pRadio
)

var protoNames = map[proto][]string{
	pLink: {"link", "ether", "ppp", "slip", "fddi", "tr", "wlan"},
	pIP:   {"ip"}, pARP: {"arp"}, pRARP: {"rarp"}, pSCTP: {"sctp"}, pTCP: {"tcp"}, pUDP: {"udp"},
	pICMP: {"icmp"}, pIGMP: {"igmp"}, pIGRP: {"igrp"}, pPIM: {"pim"}, pVRRP: {"vrrp"}, pCARP: {"carp"},
	pATalk: {"atalk"}, pAARP: {"aarp"}, pDECnet: {"decnet"}, pLAT: {"lat"}, pSCA: {"sca"},
	pMOPRC: {"moprc"}, pMOPDL: {"mopdl"}, pIPv6: {"ip6"}, pICMPv6: {"icmp6"}, pAH: {"ah"}, pESP: {"esp"},
	pISO: {"iso"}, pESIS: {"esis", "es-is"}, pISIS: {"isis", "is-is"}, pCLNP: {"clnp"},
	pSTP: {"stp"}, pIPX: {"ipx"}, pNetBEUI: {"netbeui"},
	pL1: {"l1"}, pL2: {"l2"}, pIIH: {"iih"}, pLSP: {"lsp"}, pSNP: {"snp"}, pCSNP: {"csnp"}, pPSNP: {"psnp"},
	pRadio: {"radio"},
}

func (p proto) String() string {
	if n := protoNames[p]; len(n) > 0 {
		return n[0]
	}
	return "no protocol"
}

// direction is which of a packet's two addresses is meant.
type direction uint8

const (
	dDefault direction = iota
	dSrc
	dDst
	dOr  // src or dst
	dAnd // src and dst
	dAddr1
	dAddr2
	dAddr3
	dAddr4
	dRA
	dTA
)

var dirNames = map[direction][]string{
	dSrc: {"src"}, dDst: {"dst"},
	dAddr1: {"addr1", "address1"}, dAddr2: {"addr2", "address2"},
	dAddr3: {"addr3", "address3"}, dAddr4: {"addr4", "address4"},
	dRA: {"ra"}, dTA: {"ta"},
}

func (d direction) String() string {
	if n := dirNames[d]; len(n) > 0 {
		return n[0]
	}
	return "src or dst"
}

// addrType is what kind of thing an identifier names.
type addrType uint8

const (
	aDefault addrType = iota
	aHost
	aNet
	aPort
	aPortRange
	aGateway
	aProto
	aProtoChain
	aUndef // there can't be one here
)

var addrTypeNames = [...]string{
	aHost: "host", aNet: "net", aPort: "port", aPortRange: "portrange",
	aGateway: "gateway", aProto: "proto", aProtoChain: "protochain",
}

func (a addrType) String() string {
	if int(a) < len(addrTypeNames) && addrTypeNames[a] != "" {
		return addrTypeNames[a]
	}
	return "host"
}

// otherWords are the keywords without a place in the tables above, with all
// their spellings.
var otherWords = [][]string{
	{"and"},
	{"or"},
	{"mask"},
	{"type"},
	{"subtype"},
	{"dir", "direction"},
	{"less"},
	{"greater"},
	{"byte"},
	{"broadcast"},
	{"multicast"},
	{"len", "length"},
	{"inbound"},
	{"outbound"},
	{"ifindex"},
	{"vlan"},
	{"mpls"},
	{"pppoed"},
	{"pppoes"},
	{"geneve"},
	{"vxlan"},
	{"llc"},
	{"ifname", "on"},
	{"ruleset", "rset"},
	{"rulenum", "rnr"},
	{"subrulenum", "srnr"},
	{"reason"},
	{"action"},
	// ATM
	{"lane"},
	{"metac"},
	{"bcc"},
	{"oam"},
	{"oamf4"},
	{"oamf4ec"},
	{"oamf4sc"},
	{"sc"},
	{"ilmic"},
	{"vpi"},
	{"vci"},
	{"connectmsg"},
	{"metaconnect"},
	// SS7
	{"fisu"},
	{"lssu", "lsu"},
	{"msu"},
	{"hfisu"},
	{"hlssu"},
	{"hmsu"},
	{"sio"},
	{"opc"},
	{"dpc"},
	{"sls"},
	{"hsio"},
	{"hopc"},
	{"hdpc"},
	{"hsls"},
}

// foreignWords need a link type that capagent has no filters for.
var foreignWords = map[string]string{
	"ifname": "PFLOG", "ruleset": "PFLOG", "rulenum": "PFLOG", "subrulenum": "PFLOG", "reason": "PFLOG", "action": "PFLOG",
	"lane": "SUNATM", "metac": "SUNATM", "bcc": "SUNATM", "oam": "SUNATM", "oamf4": "SUNATM", "oamf4ec": "SUNATM",
	"oamf4sc": "SUNATM", "sc": "SUNATM", "ilmic": "SUNATM", "vpi": "SUNATM", "vci": "SUNATM",
	"connectmsg": "SUNATM", "metaconnect": "SUNATM",
	"fisu": "MTP2", "lssu": "MTP2", "msu": "MTP2", "hfisu": "MTP2", "hlssu": "MTP2", "hmsu": "MTP2",
	"sio": "MTP2", "opc": "MTP2", "dpc": "MTP2", "sls": "MTP2", "hsio": "MTP2", "hopc": "MTP2", "hdpc": "MTP2", "hsls": "MTP2",
}

// namedNumbers are names for offsets and values inside headers.
var namedNumbers = map[string]uint32{
	"icmptype": 0, "icmpcode": 1,
	"icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4, "icmp-redirect": 5, "icmp-echo": 8,
	"icmp-routeradvert": 9, "icmp-routersolicit": 10, "icmp-timxceed": 11, "icmp-paramprob": 12,
	"icmp-tstamp": 13, "icmp-tstampreply": 14, "icmp-ireq": 15, "icmp-ireqreply": 16,
	"icmp-maskreq": 17, "icmp-maskreply": 18,

	"icmp6type": 0, "icmp6code": 1,
	"icmp6-destinationunreach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3, "icmp6-parameterproblem": 4,
	"icmp6-echo": 128, "icmp6-echoreply": 129, "icmp6-multicastlistenerquery": 130,
	"icmp6-multicastlistenerreportv1": 131, "icmp6-multicastlistenerdone": 132,
	"icmp6-routersolicit": 133, "icmp6-routeradvert": 134, "icmp6-neighborsolicit": 135,
	"icmp6-neighboradvert": 136, "icmp6-redirect": 137, "icmp6-routerrenum": 138,
	"icmp6-nodeinformationquery": 139, "icmp6-nodeinformationresponse": 140,
	"icmp6-ineighbordiscoverysolicit": 141, "icmp6-ineighbordiscoveryadvert": 142,
	"icmp6-multicastlistenerreportv2": 143, "icmp6-homeagentdiscoveryrequest": 144,
	"icmp6-homeagentdiscoveryreply": 145, "icmp6-mobileprefixsolicit": 146, "icmp6-mobileprefixadvert": 147,
	"icmp6-certpathsolicit": 148, "icmp6-certpathadvert": 149,
	"icmp6-multicastrouteradvert": 151, "icmp6-multicastroutersolicit": 152, "icmp6-multicastrouterterm": 153,

	"tcpflags": 13,
	"tcp-fin":  0x01, "tcp-syn": 0x02, "tcp-rst": 0x04, "tcp-push": 0x08,
	"tcp-ack": 0x10, "tcp-urg": 0x20, "tcp-ece": 0x40, "tcp-cwr": 0x80,
}
