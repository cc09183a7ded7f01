// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Small programs for measuring: sinks, reflectors, peers to compare with, and a packet generator.
// They share nothing with the steering program.

#include <stddef.h>
#include <stdbool.h>
#include <linux/types.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/in.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define FAMILY_IP4 2
#define FAMILY_IP6 10
#define HEADER_WORDS 5     /* Ethernet, IPv4 and UDP: 5 words and 2 bytes */
#define CLOCK_READS_MAX 64 /* bound of the generator's delay loop */

/* Set before loading. */
struct tool {
	__u32 ifindex;     /* redirect, generate: where to */
	__u32 flows_mask;  /* generate: number of source ports - 1, a power of two less one */
	__u32 dests;       /* generate: number of destination addresses */
	__u32 dest_first;  /* generate: the first of them, host order */
	__u32 clock_reads; /* generate: pause per frame */
	__u32 checksum;    /* generate: sum over the IPv4 header with checksum and destination 0 */
	__u64 header[6];   /* generate: Ethernet, IPv4 and UDP header of the first flow, 42 bytes used */
};
const volatile struct tool tool = {};

struct tally {
	__u64 packets;
	__u64 bytes;
};

/* Key 0. Value: frames seen. Written by sink, reflect and generate, summed by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tally);
} seen SEC(".maps");

static __always_inline void count(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct tally *tally = bpf_map_lookup_elem(&seen, &zero);

	if (!tally)
		return;
	tally->packets++;
	tally->bytes += ctx->data_end - ctx->data;
}

SEC("xdp.frags")
int sink(struct xdp_md *ctx)
{
	count(ctx);
	return XDP_DROP;
}

SEC("xdp.frags")
int pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

/* Back where it came from, MAC addresses swapped. */
SEC("xdp.frags")
int reflect(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	__u8 mac[ETH_ALEN];

	count(ctx);
	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	return XDP_TX;
}

/* Blindly out of another interface: what XDP redirect costs at least. */
SEC("xdp.frags")
int redirect(struct xdp_md *ctx)
{
	(void)ctx;
	return bpf_redirect(tool.ifindex, 0);
}

/* Half words: the packed struct ethhdr would make it single bytes. */
static __always_inline void rewrite_macs(__u16 *words, const __u16 *dmac, const __u16 *smac)
{
	words[0] = dmac[0];
	words[1] = dmac[1];
	words[2] = dmac[2];
	words[3] = smac[0];
	words[4] = smac[1];
	words[5] = smac[2];
}

/* The peer of our kernel placement: the least code with which XDP forwards IP correctly. */
SEC("xdp.frags")
int fib_redirect(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct bpf_fib_lookup fib = {};
	struct iphdr *ip4 = (void *)(eth + 1);
	struct ipv6hdr *ip6 = (void *)(eth + 1);
	__be16 ethertype;
	bool is_ip4;

	if ((void *)(eth + 1) > end)
		return XDP_PASS;
	ethertype = *(__be16 *)((void *)eth + 2 * ETH_ALEN);
	is_ip4 = ethertype == bpf_htons(ETH_P_IP);
	if (is_ip4) {
		if ((void *)(ip4 + 1) > end || ip4->ttl <= 1)
			return XDP_PASS;
		fib.family = FAMILY_IP4;
		fib.tos = ip4->tos;
		fib.l4_protocol = ip4->protocol;
		fib.tot_len = bpf_ntohs(ip4->tot_len);
		fib.ipv4_src = ip4->saddr;
		fib.ipv4_dst = ip4->daddr;
	} else if (ethertype == bpf_htons(ETH_P_IPV6)) {
		if ((void *)(ip6 + 1) > end || ip6->hop_limit <= 1)
			return XDP_PASS;
		fib.family = FAMILY_IP6;
		fib.flowinfo = *(__be32 *)ip6 & bpf_htonl(0x0fffffff);
		fib.l4_protocol = ip6->nexthdr;
		fib.tot_len = bpf_ntohs(ip6->payload_len) + sizeof(*ip6);
		__builtin_memcpy(fib.ipv6_src, &ip6->saddr, 16);
		__builtin_memcpy(fib.ipv6_dst, &ip6->daddr, 16);
	} else {
		return XDP_PASS;
	}
	fib.ifindex = ctx->ingress_ifindex;
	if (bpf_fib_lookup(ctx, &fib, sizeof(fib), 0) != BPF_FIB_LKUP_RET_SUCCESS)
		return XDP_PASS;
	if (is_ip4) {
		__u32 check = ip4->check + bpf_htons(0x0100);

		ip4->check = check + (check >= 0xffff);
		ip4->ttl--;
	} else {
		ip6->hop_limit--;
	}
	rewrite_macs((void *)eth, (void *)fib.dmac, (void *)fib.smac);
	return bpf_redirect(fib.ifindex, 0);
}

/* Word by word: a memcpy would lose the `volatile`, and the compiler then writes the zeros it sees here. */
static __always_inline void write_header(void *data)
{
	__u64 *words = data;

#pragma unroll
	for (int i = 0; i < HEADER_WORDS; i++)
		words[i] = tool.header[i];
	*(__u16 *)(words + HEADER_WORDS) = *(const volatile __u16 *)&tool.header[HEADER_WORDS];
}

static __always_inline void pause_reads(void)
{
	for (__u32 i = 0; i < CLOCK_READS_MAX; i++) {
		if (i >= tool.clock_reads)
			break;
		bpf_ktime_get_ns();
	}
}

/* Finishes the header sum prepared by user space with the destination address. */
static __always_inline __u16 ip4_checksum(__be32 dest)
{
	__u32 sum = tool.checksum + (dest & 0xffff) + (dest >> 16);

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Run by BPF_PROG_TEST_RUN with live frames. The kernel recycles their pages, so every header is written
 * anew: else the forwarder under test would see its own decremented TTL again. */
SEC("xdp.frags")
int generate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	struct iphdr *ip = data + sizeof(struct ethhdr);
	struct udphdr *udp = (void *)(ip + 1);
	__u32 random;

	if ((void *)(udp + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	pause_reads();
	count(ctx);
	write_header(data);
	if (tool.flows_mask || tool.dests > 1) {
		random = bpf_get_prandom_u32();
		udp->source = bpf_htons(bpf_ntohs(udp->source) + (random & tool.flows_mask));
		if (tool.dests > 1) {
			/* The high half scaled: flows use the low bits. */
			ip->daddr = bpf_htonl(tool.dest_first + (__u32)((__u64)(random >> 8) * tool.dests >> 24));
			ip->check = ip4_checksum(ip->daddr);
		}
	}
	return bpf_redirect(tool.ifindex, 0);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
