/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Kernel placement of the forwarder: FIB lookup, rewrite, redirect to another port. This is the fast path:
 * it touches what it must and gives up at the first surprise, leaving the frame as it was and the reason in
 * its answer.
 */
#ifndef TAILWATER_FORWARD_H
#define TAILWATER_FORWARD_H

#include "leave.h"
#include "router.h"

/* RFC 1141: a TTL one less makes the ones' complement sum one high byte less. */
static __always_inline void decrement_ttl(struct iphdr *ip)
{
	__u32 check = ip->check + bpf_htons(0x0100);

	ip->check = check + (check >= 0xffff);
	ip->ttl--;
}

static __always_inline enum verdict refused(long answer)
{
	switch (answer) {
	case BPF_FIB_LKUP_RET_BLACKHOLE:
	case BPF_FIB_LKUP_RET_UNREACHABLE:
	case BPF_FIB_LKUP_RET_PROHIBIT:
		return UP_UNREACHABLE;
	case BPF_FIB_LKUP_RET_NOT_FWDED:
		return UP_NOT_FORWARDED;
	case BPF_FIB_LKUP_RET_FWD_DISABLED:
		return UP_FORWARDING_OFF;
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		return UP_NO_NEIGHBOUR;
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		return UP_TOO_BIG;
	}
	return UP_FIB_ERROR;
}

/* Asks for the way out. TX_FORWARDED: the redirect is set, the frame still to be rewritten. */
static __always_inline enum verdict find_egress(struct xdp_md *ctx, struct bpf_fib_lookup *fib, void *ports)
{
	long answer = bpf_fib_lookup(ctx, fib, sizeof(*fib), 0);

	if (answer != BPF_FIB_LKUP_RET_SUCCESS)
		return refused(answer);
	if (bpf_redirect_map(ports, fib->ifindex, XDP_ABORTED) != XDP_REDIRECT)
		return UP_EGRESS_UNMANAGED;
	return TX_FORWARDED;
}

/* Half word by half word, as fib->dmac is aligned; see ethertype(). */
static __always_inline void rewrite_macs(struct ethhdr *eth, const struct bpf_fib_lookup *fib)
{
	const __u16 *dmac = (const void *)fib->dmac;
	const __u16 *smac = (const void *)fib->smac;
	__u16 *words = (void *)eth;

	words[0] = dmac[0];
	words[1] = dmac[1];
	words[2] = dmac[2];
	words[3] = smac[0];
	words[4] = smac[1];
	words[5] = smac[2];
}

/* RFC 1071, over a header of five words. */
static __always_inline bool ip4_sum_is_right(const struct iphdr *ip)
{
	const __u32 *words = (const void *)ip;
	__u64 sum = (__u64)words[0] + words[1] + words[2] + words[3] + words[4];

	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return (sum >> 16) + (sum & 0xffff) == 0xffff;
}

/* Whether the frame holds as many bytes from `l3` on as its IP header claims. */
static __always_inline bool holds(struct xdp_md *ctx, void *l3, void *end, __u32 len)
{
	if (len <= end - l3)
		return true;
	return port.frags && len + sizeof(struct ethhdr) <= bpf_xdp_get_buff_len(ctx);
}

/* RFC 1812 §5.2.2, §5.3.7: what is malformed, or stays on its link, is for the worker to drop and count.
 * Equal-cost routes are chosen as the kernel does with fib_multipath_hash_policy 0: by addresses. */
static __always_inline enum verdict forward_ip4(struct xdp_md *ctx, struct ethhdr *eth, void *end, void *ports)
{
	struct iphdr *ip = (void *)(eth + 1);
	struct bpf_fib_lookup fib = {};
	enum verdict verdict;

	if ((void *)(ip + 1) > end)
		return REDIRECT_TRANSIT;
	if (*(__u8 *)ip != 0x45)
		return UP_OPTIONS;
	if (ip->ttl <= 1)
		return UP_TTL;
	if (ip4_stays_on_link(ip->daddr) || ip4_stays_on_link(ip->saddr))
		return REDIRECT_TRANSIT;
	fib.family = FAMILY_IP4;
	fib.l4_protocol = ip->protocol;
	fib.tot_len = bpf_ntohs(ip->tot_len);
	if (fib.tot_len < sizeof(*ip) || !holds(ctx, ip, end, fib.tot_len) || !ip4_sum_is_right(ip))
		return REDIRECT_TRANSIT;
	fib.ifindex = port.ifindex;
	fib.tos = ip->tos;
	fib.ipv4_src = ip->saddr;
	fib.ipv4_dst = ip->daddr;
	verdict = find_egress(ctx, &fib, ports);
	if (verdict != TX_FORWARDED)
		return verdict;
	decrement_ttl(ip);
	rewrite_macs(eth, &fib);
	return TX_FORWARDED;
}

static __always_inline enum verdict forward_ip6(struct xdp_md *ctx, struct ethhdr *eth, void *end, void *ports)
{
	struct ipv6hdr *ip = (void *)(eth + 1);
	struct bpf_fib_lookup fib = {};
	enum verdict verdict;

	if ((void *)(ip + 1) > end)
		return REDIRECT_TRANSIT;
	if (ip->version != 6)
		return REDIRECT_TRANSIT;
	/* RFC 8200 §4.3: hop-by-hop options are for us to look at. */
	if (ip->nexthdr == IPPROTO_HOPOPTS)
		return UP_OPTIONS;
	if (ip->hop_limit <= 1)
		return UP_TTL;
	__builtin_memcpy(fib.ipv6_src, &ip->saddr, 16);
	__builtin_memcpy(fib.ipv6_dst, &ip->daddr, 16);
	if (ip6_stays_on_link((__u64 *)fib.ipv6_dst) || ip6_stays_on_link((__u64 *)fib.ipv6_src))
		return REDIRECT_TRANSIT;
	fib.family = FAMILY_IP6;
	fib.l4_protocol = ip->nexthdr;
	fib.tot_len = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	if (!holds(ctx, ip, end, fib.tot_len))
		return REDIRECT_TRANSIT;
	fib.ifindex = port.ifindex;
	fib.flowinfo = *(__be32 *)ip & bpf_htonl(0x0fffffff);
	verdict = find_egress(ctx, &fib, ports);
	if (verdict != TX_FORWARDED)
		return verdict;
	ip->hop_limit--;
	rewrite_macs(eth, &fib);
	return TX_FORWARDED;
}

/* `ports` is the devmap of this program. TX_FORWARDED: done. Anything else: why the frame must go the way of user placement. */
static __always_inline enum verdict forward(struct xdp_md *ctx, struct ethhdr *eth, void *end, void *ports)
{
	if (!is_own_mac(eth))
		return REDIRECT_TRANSIT;
	if (ethertype(eth) == bpf_htons(ETH_P_IP))
		return forward_ip4(ctx, eth, end, ports);
	if (ethertype(eth) == bpf_htons(ETH_P_IPV6))
		return forward_ip6(ctx, eth, end, ports);
	return is_vlan(ethertype(eth)) ? UP_TAGGED : REDIRECT_TRANSIT;
}

#endif
