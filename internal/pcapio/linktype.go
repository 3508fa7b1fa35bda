package pcapio

import "strconv"

// Link types whose packets may be larger than others.
const (
	linkDBus    = 231
	linkUSBPcap = 249
	linkEBHSCR  = 279
)

// linkNames are the names of tcpdump's -L and -y for LINKTYPE_ values
// (www.tcpdump.org/linktypes.html), as far as captures with them are met.
var linkNames = map[int]string{
	0:   "NULL",
	1:   "EN10MB",
	2:   "EN3MB",
	3:   "AX25",
	6:   "IEEE802",
	7:   "ARCNET",
	8:   "SLIP",
	9:   "PPP",
	10:  "FDDI",
	12:  "RAW", // DLT_RAW as some systems wrote it into files
	14:  "RAW",
	50:  "PPP_SERIAL",
	51:  "PPP_ETHER",
	100: "ATM_RFC1483",
	101: "RAW",
	104: "C_HDLC",
	105: "IEEE802_11",
	107: "FRELAY",
	108: "LOOP",
	113: "LINUX_SLL",
	114: "LTALK",
	117: "PFLOG",
	119: "PRISM_HEADER",
	122: "IP_OVER_FC",
	123: "SUNATM",
	127: "IEEE802_11_RADIO",
	129: "ARCNET_LINUX",
	138: "APPLE_IP_OVER_IEEE1394",
	139: "MTP2_WITH_PHDR",
	140: "MTP2",
	141: "MTP3",
	142: "SCCP",
	143: "DOCSIS",
	144: "LINUX_IRDA",
	163: "IEEE802_11_RADIO_AVS",
	166: "PPP_PPPD",
	169: "GPRS_LLC",
	177: "LINUX_LAPD",
	187: "BLUETOOTH_HCI_H4",
	189: "USB_LINUX",
	192: "PPI",
	195: "IEEE802_15_4",
	197: "ERF",
	201: "BLUETOOTH_HCI_H4_WITH_PHDR",
	203: "LAPD",
	204: "PPP_WITH_DIR",
	205: "C_HDLC_WITH_DIR",
	206: "FRELAY_WITH_DIR",
	209: "IPMB_LINUX",
	215: "IEEE802_15_4_NONASK_PHY",
	220: "USB_LINUX_MMAPPED",
	224: "FC_2",
	225: "FC_2_WITH_FRAME_DELIMS",
	226: "IPNET",
	227: "CAN_SOCKETCAN",
	228: "IPV4",
	229: "IPV6",
	230: "IEEE802_15_4_NOFCS",
	231: "DBUS",
	235: "DVB_CI",
	236: "MUX27010",
	239: "NFLOG",
	240: "NETANALYZER",
	241: "NETANALYZER_TRANSPARENT",
	242: "IPOIB",
	243: "MPEG_2_TS",
	245: "NFC_LLCP",
	247: "INFINIBAND",
	248: "SCTP",
	249: "USBPCAP",
	250: "RTAC_SERIAL",
	251: "BLUETOOTH_LE_LL",
	252: "UPPER_PDU", // Wireshark's exported PDUs
	253: "NETLINK",
	254: "BLUETOOTH_LINUX_MONITOR",
	255: "BLUETOOTH_BREDR_BB",
	256: "BLUETOOTH_LE_LL_WITH_PHDR",
	258: "PKTAP",
	259: "EPON",
	265: "SDLC",
	266: "USB_DARWIN",
	270: "VSOCK",
	271: "NORDIC_BLE",
	272: "DOCSIS31_XRA31",
	273: "ETHERNET_MPACKET",
	274: "DISPLAYPORT_AUX",
	276: "LINUX_SLL2",
	279: "EBHSCR",
	280: "VPP_DISPATCH",
	281: "DSA_TAG_BRCM",
	283: "IEEE802_15_4_TAP",
}

// LinkTypeName returns tcpdump's name of a LINKTYPE_ value, such as "EN10MB", or
// "LINKTYPE_<n>" for one that it does not know.
func LinkTypeName(n int) string {
	if name, ok := linkNames[n]; ok {
		return name
	}
	return "LINKTYPE_" + strconv.Itoa(n)
}
