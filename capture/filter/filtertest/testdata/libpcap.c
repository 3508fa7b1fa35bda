/*
 * Compiles filters for package filtertest, with whatever libpcap it is linked to.
 * No header of libpcap is needed: what is used of it is declared here.
 *
 * A request is a line "MODE DLT SNAPLEN NETMASK OPTIMISE LENGTH" and then LENGTH
 * bytes of expression. MODE: d a handle from pcap_open_dead; f one from
 * pcap_fopen_offline, a file of this machine's byte order; s a file of the other
 * order; l a live one on lo. An answer is "ok N" and N lines "code jt jf k", or
 * "no TEXT".
 */
#define _GNU_SOURCE
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct pcap pcap_t;
struct bpf_insn { uint16_t code; uint8_t jt, jf; uint32_t k; };
struct bpf_program { unsigned bf_len; struct bpf_insn *bf_insns; };
pcap_t *pcap_open_dead(int, int);
pcap_t *pcap_fopen_offline(FILE *, char *);
pcap_t *pcap_create(const char *, char *);
int pcap_activate(pcap_t *);
int pcap_set_snaplen(pcap_t *, int);
int pcap_set_datalink(pcap_t *, int);
int pcap_compile(pcap_t *, struct bpf_program *, const char *, int, uint32_t);
char *pcap_geterr(pcap_t *);
void pcap_freecode(struct bpf_program *);
void pcap_close(pcap_t *);
const char *pcap_lib_version(void);

static char errbuf[256];

static pcap_t *offline(int swapped, int dlt, int snaplen)
{
	uint32_t h[6] = {0xa1b2c3d4, 4 << 16 | 2, 0, 0, snaplen, dlt == 12 ? 101 : dlt};
	if (swapped) {
		for (int i = 0; i < 6; i++)
			h[i] = __builtin_bswap32(h[i]);
		h[1] = __builtin_bswap32(2 << 16 | 4);
	}
	FILE *f = tmpfile();
	if (f == NULL)
		return NULL;
	fwrite(h, sizeof h, 1, f);
	rewind(f);
	return pcap_fopen_offline(f, errbuf);
}

/* live opens lo (EN10MB) or any (LINUX_SLL, LINUX_SLL2) in a namespace of its own,
 * once for each DLT. */
static pcap_t *live(int dlt)
{
	static pcap_t *handles[512];
	static int away;
	if (dlt < 0 || dlt >= 512)
		return NULL;
	if (handles[dlt] != NULL)
		return handles[dlt];
	if (!away) {
		struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP};
		int s;
		if (unshare(CLONE_NEWNET) < 0 || (s = socket(AF_INET, SOCK_DGRAM, 0)) < 0 ||
		    ioctl(s, SIOCSIFFLAGS, &r) < 0) {
			strcpy(errbuf, "no network namespace of its own");
			return NULL;
		}
		close(s);
		away = 1;
	}
	pcap_t *p = pcap_create(dlt == 1 ? "lo" : "any", errbuf);
	if (p == NULL)
		return NULL;
	pcap_set_snaplen(p, 262144);
	if (pcap_activate(p) < 0 || pcap_set_datalink(p, dlt) < 0) {
		snprintf(errbuf, sizeof errbuf, "%s", pcap_geterr(p));
		pcap_close(p);
		return NULL;
	}
	return handles[dlt] = p;
}

int main(void)
{
	char line[256], mode;
	int dlt, snaplen, optimise;
	unsigned netmask, len;

	printf("%s\n", pcap_lib_version());
	fflush(stdout);
	while (fgets(line, sizeof line, stdin) != NULL) {
		if (sscanf(line, "%c %d %d %u %d %u", &mode, &dlt, &snaplen, &netmask, &optimise, &len) != 6)
			return 2;
		char *expr = malloc(len + 1);
		if (expr == NULL || fread(expr, 1, len, stdin) != len)
			return 2;
		expr[len] = 0;
		strcpy(errbuf, "no handle");
		pcap_t *p = mode == 'd' ? pcap_open_dead(dlt, snaplen) :
			mode == 'l' ? live(dlt) : offline(mode == 's', dlt, snaplen);
		struct bpf_program prog = {0};
		if (p == NULL) {
			printf("error %s\n", errbuf);
		} else if (pcap_compile(p, &prog, expr, optimise, netmask) < 0) {
			char *e = pcap_geterr(p);
			for (char *c = e; *c != 0; c++)
				if (*c == '\n')
					*c = ' ';
			printf("no %s\n", e);
		} else {
			printf("ok %u\n", prog.bf_len);
			for (unsigned i = 0; i < prog.bf_len; i++)
				printf("%u %u %u %u\n", prog.bf_insns[i].code, prog.bf_insns[i].jt,
				    prog.bf_insns[i].jf, prog.bf_insns[i].k);
			pcap_freecode(&prog);
		}
		fflush(stdout);
		if (p != NULL && mode != 'l')
			pcap_close(p);
		free(expr);
	}
	return 0;
}
